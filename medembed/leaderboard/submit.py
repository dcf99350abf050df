"""A published model → the files of the two pull requests that put it on mteb's leaderboard, read back by mteb itself.

One is a `ModelMeta` as Python code, for mteb; the other its results, for the results repository. Nothing is sent.
"""

import importlib.util
import json
import logging
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medembed import models
from medembed.errors import Fault, InputError, RunError
from medembed.evaluate.lineage import declared_to_mteb
from medembed.provenance import manifest
from medembed.recipe import Model, ModelRecipe, Recipe, is_local
from medembed.run import Run, replacing

if TYPE_CHECKING:
    from mteb.models.model_meta import ModelMeta
    from mteb.results import TaskResult

log = logging.getLogger(__name__)

TRAINING_CODE = "https://github.com/medembed/medembed"
COMMIT = re.compile("[0-9a-f]{40}")


def submit(recipe: Recipe, run: Run, results: Path | None, revision: str | None, to: Path) -> list[Path]:
    """Write the files into the folder `to`, and let mteb read them.

    Raises:
        InputError: no model that was published to the Hub, or results that mteb would not take.
        RunError: mteb does not read what was written as it was meant.
    """
    if not isinstance(recipe, ModelRecipe) or recipe.publish.repo is None:
        raise InputError.of("is no model that is published to the Hub: there is no `publish.repo`", recipe.name)
    name, commit = recipe.publish.repo, revision or _published(run)
    place = Path("results") / name.replace("/", "__") / commit
    found = _results((results / place if results else _measured_before(run, commit)).resolve())
    meta = _meta(recipe, run, name, commit)
    code = to / "mteb/mteb/models/model_implementations" / f"{_identifier(name.partition('/')[0])}_models.py"
    if code.exists() and f"name={name!r}," not in code.read_text(encoding="utf-8"):
        raise InputError.of("holds the submission of another model", str(code), "Choose another folder by `--to`.")
    files = {code: _module(meta)}
    target = to / "results" / place
    told = meta.to_dict() | {"training_datasets": sorted(meta.training_datasets or [])}
    files[target / "model_meta.json"] = json.dumps(told, default=str, indent=4) + "\n"
    files |= {target / f"{result.task_name}.json": _as_json(result) for result in found}
    for path, text in files.items():
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    _validate(meta, code, to / "results", found)
    return list(files)


def where(files: list[Path], to: Path) -> str:
    """What to do with the files."""
    return (
        f"Open two pull requests:\n"
        f"  https://github.com/embeddings-benchmark/mteb: copy {to / 'mteb'} over a clone; where {files[0].name} is there already, append\n"
        f"  https://github.com/embeddings-benchmark/results: copy {to / 'results'} over a clone"
    )


def _published(run: Run) -> str:
    """The commit that `publish` pushed."""
    record = run.record("publish")
    _, at, commit = str(record.facts.get("where") if record else "").rpartition("@")
    if not at or not COMMIT.fullmatch(commit):
        mend = "Run `medembed publish` first, or name the commit by `--revision`."
        raise InputError.of("has not been published to the Hub from here", str(run.folder), mend)
    return commit


def _measured_before(run: Run, commit: str) -> Path:
    """The results of the run's model, measured before it was published: of the same weights, which then stood at `commit`."""
    record = run.record("publish")
    if not record or not str(record.facts.get("where")).endswith(f"@{commit}"):
        what, mend = f"{commit} was not published from here", "Say by `--results` where its results are."
        raise InputError.of(what, str(run.folder), mend)
    tuned = run.finished("evaluate").facts["tuned"]
    if not models.weights_hash(run.path("publish", "repo")).startswith(tuned["revision"]):
        what = "the results are those of another model than was published"
        raise InputError.of(what, str(run.folder), "Run `medembed publish` with the recipe first.")
    return run.path("evaluate", f"results/local__{tuned['name']}/{tuned['revision']}")


def _results(folder: Path) -> "list[TaskResult]":
    """The results in a folder, each whole and of a task that mteb has, on that task's data.

    Raises:
        InputError: with all that is wrong in all of them.
    """
    import mteb
    from mteb.get_tasks import TASK_LIST
    from mteb.results import TaskResult

    paths = sorted(path for path in folder.glob("*.json") if path.name != "model_meta.json")
    names = {task.metadata.name for task in TASK_LIST}
    if ours := [path.stem for path in paths if path.stem not in names]:
        log.info("leaderboard: not submitted, since mteb does not have them: %s", ", ".join(ours))
    found: list[TaskResult] = []
    faults: list[Fault] = []
    parts: list[Fault] = []  # results that are right, but not of the whole task
    for path in (path for path in paths if path.stem in names):
        task = mteb.get_task(path.stem)
        try:
            result = TaskResult.from_disk(path)
        except (OSError, ValueError, KeyError) as error:
            faults += InputError.of("mteb cannot read it as a result", str(path), type(error).__name__).faults
            continue
        expected = task.metadata.dataset["revision"]
        if result.dataset_revision != expected:
            what = f"was measured on revision {result.dataset_revision} of the data; mteb has {expected}"
            faults += InputError.of(what, str(path), "Evaluate again.").faults
        elif missing := result.get_missing_evaluations(task):
            lacks = sum(len(subsets) for subsets in missing.values())
            mend = "Evaluate the task in all its languages: `medembed evaluate --model … --languages all`, then `--results`."
            parts += InputError.of(f"is not whole: {lacks} subsets of the task are missing", str(path), mend).faults
        else:
            found.append(result)
    if faults or (parts and not found):
        raise InputError(*faults, *parts)
    for fault in parts:
        log.info("leaderboard: not submitted: %s", fault)
    if not found:
        mend = "Evaluate what was published: the model at its commit, on mteb's own tasks."
        raise InputError.of("holds no results of mteb's tasks", str(folder), mend)
    return found


def _meta(recipe: ModelRecipe, run: Run, name: str, commit: str) -> "ModelMeta":
    """What mteb finds out about the trained model, and what the manifest declares of it."""
    from mteb.models.model_meta import ModelMeta

    run.finished("train")
    model = models.load(Model(model=str(run.path("train", "model").absolute())), device="cpu")
    of_kind = {
        "SentenceTransformer": ModelMeta.from_sentence_transformer_model,
        "MultiVectorEncoder": ModelMeta.from_multi_vector_encoder_model,
    }[type(model).__name__]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # mteb's own use of what it has deprecated
        meta = of_kind(model)
    weights = list(model.parameters())
    made_of = manifest(recipe, run)
    declared: dict[str, Any] = {
        "name": name,
        "revision": commit,
        "languages": ["eng-Latn"],
        "n_parameters": sum(weight.numel() for weight in weights),
        "memory_usage_mb": round(sum(weight.numel() * weight.element_size() for weight in weights) / 2**20),
        "open_weights": True,
        "public_training_code": TRAINING_CODE,
        "public_training_data": _public(recipe),
        "reference": f"https://huggingface.co/{name}",
        "use_instructions": any(model.prompts.values()),
        **declared_to_mteb(made_of, models.resolve(recipe.base).name),
    }
    # Through its validators: what mteb would refuse is refused here.
    return ModelMeta.model_validate(meta.model_dump() | declared)


def _public(recipe: ModelRecipe) -> str | None:
    """The page of the training data, where it is on the Hub."""
    return None if is_local(recipe.data.dataset) else f"https://huggingface.co/datasets/{recipe.data.dataset}"


def _module(meta: "ModelMeta") -> str:
    """The Python module that mteb takes: one `ModelMeta`, as those of mteb are written."""
    loader = meta.loader
    assert loader is not None and meta.name is not None
    variable = _identifier(meta.name.partition("/")[2])
    return (
        "from mteb.models.model_meta import ModelMeta, ScoringFunction\n"
        f"from {loader.__module__} import {loader.__name__}\n\n"
        f"{variable} = {meta.to_python()}\n"
    )


def _identifier(text: str) -> str:
    name = re.sub(r"\W", "_", text, flags=re.ASCII).lower()
    return name if not name[0].isdigit() else f"_{name}"


def _as_json(result: "TaskResult") -> str:
    return json.dumps(json.loads(result.model_dump_json()), indent=2) + "\n"


def _validate(meta: "ModelMeta", code: Path, results: Path, meant: "list[TaskResult]") -> None:
    """Let mteb import the module and load the results: it must find what was meant, and nothing else."""
    import mteb

    spec = importlib.util.spec_from_file_location("submitted", code)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if meta not in vars(module).values():
        raise RunError.of("mteb reads another ModelMeta from it than was meant", str(code))
    loaded = mteb.ResultCache(results).load_results(models=[meta], include_remote=False)
    read = {result.task_name: result.get_score() for of_model in loaded for result in of_model.task_results}
    if read != {result.task_name: result.get_score() for result in meant}:
        raise RunError.of("mteb reads other results from it than were meant", str(results))
