"""What a model may have been trained on: mteb's registry, or the manifest that a model carries, in; a state for each task out.

A manifest may be anybody's: what is not of the expected form in it tells nothing.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, get_args

from medembed.evaluate.zero_shot import States, declared, of_both, of_data, tasks_of
from medembed.provenance import within
from medembed.recipe import is_local
from medembed.tasks import task_name


def by_registry(model: str, tasks: list[str]) -> States:
    """The states by what mteb's registry declares of a model; of local tasks nothing is declared anywhere."""
    of_mteb = [task for task in tasks if not is_local(task)]
    known: States = {}
    if of_mteb:
        from mteb.models.model_implementations import MODEL_REGISTRY

        meta = MODEL_REGISTRY.get(model)
        known = declared(of_mteb, meta.get_training_datasets() if meta else None)
    return {task_name(task): known.get(task, "not known") for task in tasks}


def by_manifest(manifest: Mapping[str, Any], tasks: list[str], languages: list[str]) -> States:
    """The states of a model by its own manifest: what its base was trained on by mteb's registry, and the names of its data and the
    decontamination report."""
    base = within(manifest, "stages", "train", "facts", "base").get("name")
    return of_both(by_registry(str(base), tasks), _of_data(manifest, tasks, languages))


def mteb_names(datasets: Iterable[str]) -> set[str]:
    """The tasks of mteb that are made of these data sets, and by mteb's own rule what was adapted from those, or those from."""
    from mteb.models import ModelMeta

    made_of = tasks_of(of_data(_data_of_mteb(), datasets, {}), "trained on")
    return set(ModelMeta.create_empty(overwrites={"training_datasets": set(made_of)}).get_training_datasets() or ())


def declared_to_mteb(manifest: Mapping[str, Any], base: str) -> dict[str, Any]:
    """What mteb's metadata of a model has room for, and no folder of weights tells; in mteb's words."""
    from mteb.models.model_meta import Licenses

    said = manifest["training_datasets"]
    return {
        "license": manifest["license"] if manifest["license"] in get_args(Licenses) else "not specified",
        "training_datasets": sorted({*said, *mteb_names(said)}),
        "adapted_from": base,
    }


@cache
def _data_of_mteb() -> dict[str, str]:
    from mteb.get_tasks import TASK_LIST

    return {task.metadata.name: str(task.metadata.dataset["path"]) for task in TASK_LIST}


def _of_data(manifest: Mapping[str, Any], tasks: list[str], languages: list[str]) -> States:
    from medembed.tasks import registry

    about = {task_name(task): registry.find(task, languages).metadata for task in tasks}
    # A report on other data that had the same name tells nothing.
    reports = {
        task: report
        for task, data in about.items()
        if (report := within(manifest, "decontamination", task)).get("revision") == data.dataset["revision"]
    }
    datasets = {task: str(data.dataset["path"]) for task, data in about.items()}
    said = manifest.get("training_datasets")
    trained_on = [it for it in said if isinstance(it, str)] if isinstance(said, list) else []
    return of_data(datasets, [*trained_on, *mteb_names(trained_on)], reports)
