"""One model that no recipe names → its results: a name and tasks in; mteb's results files and the scores of every query out.

<folder>/results/<org>__<model>/<revision>/   <Task>.json and model_meta.json, as mteb's results repository has them
<folder>/measured/                            the same by measurement, with the scores of every query; the embeddings
"""

import shutil
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from medembed.errors import Fault, InputError, all_told
from medembed.evaluate import encoders
from medembed.evaluate.costs import Costs, costs_of
from medembed.evaluate.scores import METRICS, Measured, Measurement, encoder_of, measure, missing
from medembed.evaluate.zero_shot import States
from medembed.recipe import Evaluate, is_local
from medembed.run import no_space_is_told, read_json, replacing
from medembed.tasks import beir, check_names


@dataclass(frozen=True)
class Alone:
    """A model by itself: its scores, whether it may have been trained on the data of each task, and its costs if they were asked for."""

    measured: Measured
    states: States
    costs: Costs | None


def tasks_of(benchmark: str) -> list[str]:
    """The tasks of one of mteb's benchmarks.

    Raises:
        InputError: mteb has no such benchmark.
    """
    import mteb

    try:
        return [task.metadata.name for task in mteb.get_benchmark(benchmark).tasks]
    except KeyError as error:
        near = ", ".join(get_close_matches(benchmark, [known.name for known in mteb.get_benchmarks()], n=5))
        mend = f"Near names: {near}." if near else "Such as: MTEB(Medical, v1)."
        raise InputError.of(f"mteb has no benchmark {benchmark!r}", "--benchmark", mend) from error


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
) -> Alone:
    """Measure the model that `name` stands for on `tasks`; only what is not in `folder` already, unless `again`.

    Everything that can be found wrong is, before a text is encoded.

    Raises:
        InputError: no such model, task, language or data; a model with code of its own; another process works in `folder`.
        RunError: data that was there is so no more.
    """
    if absent := [task for task in tasks if is_local(task) and not Path(task).is_dir()]:
        raise InputError(*(Fault("there is no such folder", task) for task in absent))
    check_names(tasks, "--tasks")
    evaluate = Evaluate(tasks=tasks, languages=languages, batch_size=batch_size)
    model, resolved = encoders.find(name, allow_remote_code=allow_remote_code)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".lock", timeout=0), no_space_is_told("evaluating", folder):
            states = encoders.states_of(model, resolved, evaluate.tasks, languages)
            wanted = evaluate.tasks if again else missing(model, resolved, evaluate, folder / "measured")
            all_told([partial(_look, task, languages) for task in wanted])
            measured = measure(model, resolved, evaluate, folder / "measured", again=again)
            for measurement in measured.tasks.values():
                _publish(measurement, folder)
            told = costs_of(encoder_of(model, resolved, evaluate, folder / "measured"), evaluate, []) if costs else None
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


def _look(task: str, languages: list[str]) -> None:
    if is_local(task):
        beir.read(Path(task))
        return
    from medembed.tasks import registry

    registry.look(task, languages)


def _publish(measurement: Measurement, folder: Path) -> None:
    """Put mteb's files of a measurement where mteb looks for them; those of an older mteb or task give way."""
    for path in measurement.folder.glob("results/*/*/*.json"):
        with replacing(folder / path.relative_to(measurement.folder)) as temporary:
            shutil.copyfile(path, temporary)
