"""What a model may have been trained on: mteb's registry, or the manifest that a model carries, in; a state for each task out.

A manifest may be anybody's: what is not of the expected form in it tells nothing.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from medembed.evaluate.zero_shot import States, declared, of_both, of_data, tasks_of
from medembed.provenance import within
from medembed.recipe import is_local
from medembed.tasks import task_name

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata


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
    """The tasks of mteb that are made of these data sets: mteb compares the names of tasks."""
    from mteb.get_tasks import TASK_LIST

    names = {task.metadata.name: _names(task.metadata) for task in TASK_LIST}
    return set(tasks_of(of_data(names, datasets, {}), "trained on"))


def _of_data(manifest: Mapping[str, Any], tasks: list[str], languages: list[str]) -> States:
    from medembed.tasks import registry

    about = {task_name(task): registry.find(task, languages).metadata for task in tasks}
    # A report on other data that had the same name tells nothing.
    reports = {
        task: report
        for task, data in about.items()
        if (report := within(manifest, "decontamination", task)).get("revision") == data.dataset["revision"]
    }
    names = {task: _names(data) for task, data in about.items()}
    said = manifest.get("training_datasets")
    return of_data(names, [it for it in said if isinstance(it, str)] if isinstance(said, list) else [], reports)


def _names(task: "TaskMetadata") -> list[str]:
    """What the data of a task is called besides: its repository or folder, what it is a translation or a part of."""
    return [str(task.dataset["path"]), *(task.adapted_from or [])]
