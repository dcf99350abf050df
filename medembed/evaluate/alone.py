"""One model that no recipe names → its results: a name and tasks in; mteb's results files and the scores of every query out.

<folder>/results/<org>__<model>/<revision>/   <Task>.json and model_meta.json, as mteb's results repository has them
<folder>/measured/                            the same by measurement, with the scores of every query; the embeddings
<folder>/models.json                          of each model whether it may have been trained on the tasks, and its costs, if asked for
<folder>/speeds.json                          embeddings a second by model, as `medembed leaderboard build --speeds` reads them
"""

import shutil
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np

from medembed.errors import Fault, InputError
from medembed.evaluate import encoders
from medembed.evaluate.costs import Costs, costs_of
from medembed.evaluate.pictures import draw_compressed
from medembed.evaluate.scores import METRICS, Measured, Measurement, encoder_of, measure
from medembed.evaluate.zero_shot import States
from medembed.recipe import Evaluate, is_local
from medembed.run import no_space_is_told, read_json, replacing, write_json
from medembed.tasks import check_names

if TYPE_CHECKING:
    from mteb.results import TaskResult

    from medembed.models import Resolved

TOLD, SPEEDS = "models.json", "speeds.json"


@dataclass(frozen=True)
class Alone:
    """A model by itself: its scores, whether it may have been trained on the data of each task, and its costs if they were asked for."""

    measured: Measured
    states: States
    costs: Costs | None


def tasks_of(benchmark: str) -> list[str]:
    """The tasks of one of mteb's benchmarks.

    Raises:
        InputError: mteb has no such benchmark, or it asks only some languages or splits of a task: its score would be another.
    """
    import mteb

    from medembed.tasks import registry

    try:
        tasks = mteb.get_benchmark(benchmark).tasks
    except KeyError as error:
        near = ", ".join(get_close_matches(benchmark, [known.name for known in mteb.get_benchmarks()], n=5))
        mend = f"Near names: {near}." if near else "Such as: MTEB(Medical, v1)."
        raise InputError.of(f"mteb has no benchmark {benchmark!r}", "--benchmark", mend) from error
    whole = {task.metadata.name: registry.named(task.metadata.name, "--benchmark") for task in tasks}
    asked = {task.metadata.name: [sorted(task.hf_subsets), sorted(task.eval_splits)] for task in tasks}
    if parts := [name for name, it in whole.items() if asked[name] != [sorted(it.hf_subsets), sorted(it.eval_splits)]]:
        what = f"{benchmark} asks only some languages or splits of {len(parts)} of its tasks: {', '.join(parts[:5])} …"
        mend = "Name tasks by `--tasks`, their languages by `--languages`; or let mteb run it: `mteb run -m … -b …`."
        raise InputError.of(what, "--benchmark", mend)
    return list(whole)


def measure_alone(
    name: str,
    tasks: list[str],
    folder: Path,
    *,
    languages: list[str],
    batch_size: int,
    allow_remote_code: bool = False,
    again: bool = False,
    costs: bool = False,
    cut_to: list[int] | None = None,
) -> Alone:
    """Measure the model that `name` stands for on `tasks`; only what is not in `folder` already, unless `again`.

    Everything that can be found wrong is, before a text is encoded. `cut_to`: numbers of dimensions that `costs` also tells of.

    Raises:
        InputError: no such model, task, language or data; a model with code of its own; another process works in `folder`.
        RunError: data that was there is so no more.
    """
    if absent := [task for task in tasks if is_local(task) and not Path(task).is_dir()]:
        raise InputError(*(Fault("there is no such folder", task) for task in absent))
    check_names(tasks, "--tasks")
    evaluate = Evaluate(tasks=tasks, languages=languages, batch_size=batch_size)
    model, resolved = encoders.find(name, allow_remote_code=allow_remote_code, batch_size=batch_size)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".lock", timeout=0), no_space_is_told("evaluating", folder):
            states = encoders.states_of(model, resolved, evaluate.tasks, languages)
            measured = measure(model, resolved, evaluate, folder / "measured", again=again)
            for measurement in measured.tasks.values():
                _publish(measurement, folder)
            told = None
            if costs:
                told = costs_of(encoder_of(model, resolved, evaluate, folder / "measured"), evaluate, cut_to or [])
            _keep(resolved, states, told, folder)
    except filelock.Timeout as error:
        raise InputError.of("another medembed process works in this folder", str(folder)) from error
    return Alone(measured, states, told)


def summary(found: Alone) -> dict[str, dict[str, Any]]:
    """task → `main` (its main score, 0 to 1), the metrics of tasks that rank, how many queries and passages they have, and `zero_shot`."""
    told: dict[str, dict[str, Any]] = {}
    for task, measurement in found.measured.tasks.items():
        scores = read_json(measurement.results())["scores"]
        main = float(np.mean([part["main_score"] for split in scores.values() for part in split]))
        told[task] = {"main": main, "queries": len(measurement.scores), "passages": measurement.passages}
        told[task]["zero_shot"] = found.states[task]
        if parts := measurement.parts:
            told[task] |= dict(zip(METRICS, np.mean([part.mean(axis=0) for part in parts], axis=0), strict=True))
    return told


def _publish(measurement: Measurement, folder: Path) -> None:
    """Put mteb's files of a measurement where mteb looks for them. What stands there of other languages stays; what an older mteb
    made, or of other data, gives way.
    """
    for path in measurement.folder.glob("results/*/*/*.json"):
        target = folder / path.relative_to(measurement.folder)
        if target.exists() and target.read_bytes() == path.read_bytes():
            continue
        merged = _merged(target, path) if path == measurement.results() and target.exists() else None
        with replacing(target) as temporary:
            if merged:
                merged.to_disk(temporary)
            else:
                shutil.copyfile(path, temporary)


def _merged(standing: Path, new: Path) -> "TaskResult | None":
    """Both results in one; None where the new one takes the place of all that stands."""
    from mteb.results import TaskResult

    result = TaskResult.from_disk(new)
    try:
        before = TaskResult.from_disk(standing)
    except (OSError, ValueError, KeyError):  # whoever wrote it
        return None
    if not before.is_mergeable(result, criteria=["mteb_version", "dataset_revision"]):
        return None
    merged = before.merge(result)
    if merged.scores == result.scores:
        return None
    return before if merged.scores == before.scores else merged


def _keep(model: "Resolved", states: States, costs: Costs | None, folder: Path) -> None:
    """Add what is told of a model, besides its scores, to what is told of others; with a picture of quality against size."""
    identity: dict[str, Any] = {"name": model.name, "revision": model.revision}
    models = read_json(folder / TOLD) if (folder / TOLD).exists() else []
    before = next((it for it in models if identity.items() <= it.items()), identity)
    after = before | {"zero_shot": before.get("zero_shot", {}) | states}
    if costs:
        after |= {**costs.facts, "speed": costs.speed}
        if len(costs.by_form) > 1:
            draw_compressed(folder / f"compressed-{model.name.replace('/', '__')}.svg", {model.name: costs.by_form})
        if costs.speed:
            _keep_speed(model.name, costs.speed, folder / SPEEDS)
    if after != before:
        write_json(folder / TOLD, [it for it in models if it is not before] + [after])


def _keep_speed(name: str, speed: dict[str, Any], path: Path) -> None:
    """Add a model's speed to those of others on the same device; those of another device give way."""
    known = read_json(path) if path.exists() else {}
    others = known["embeddings_per_second"] if known.get("device") == speed["device"] else {}
    rates = others | {name: speed["embeddings_per_second"]["32"]}
    write_json(path, {"device": speed["device"], "embeddings_per_second": rates})
