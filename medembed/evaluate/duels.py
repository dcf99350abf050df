"""Two measured models, query by query: what the tuned one gains on the base one, on each task and on average, and where.

In: `Measured` of two models, from the same run or from others. Out: a `Duel`; and of any number of models, who wins how many cells of
task and metric. Nothing is encoded.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from medembed.errors import InputError
from medembed.evaluate.scores import METRICS, Measured, Measurement
from medembed.evaluate.statistics import Compared, Comparison, Part, Verdict, compare, verdict
from medembed.run import read_json

MAIN = "ndcg_at_10"  # the metric that the verdict goes by
TOLD = 10  # queries that gained most, and that lost most
CELL = re.compile(r"(ndcg|map|recall|precision|mrr)_at_\d+")

Cells = dict[tuple[str, str], float]  # (task, metric) → score


@dataclass(frozen=True)
class Change:
    """One query of a task by its id: a text may be private, and is told nowhere."""

    task: str
    part: str
    query_id: str
    base: float
    tuned: float


@dataclass(frozen=True)
class Duel:
    """A tuned model against a base one, by metric; `gained` and `lost` are the queries that changed most, by nDCG@10."""

    base: str
    tuned: str
    tasks: dict[str, dict[str, Comparison]]
    average: dict[str, Comparison]
    zero_shot_average: (
        dict[str, Comparison] | None
    )  # over the tasks that are zero-shot for both; None when there are none
    verdict: Verdict
    gained: list[Change]
    lost: list[Change]


def duel(base: Measured, tuned: Measured, resamples: int, seed: int, zero_shot: list[str] | None = None) -> Duel:
    """Compare two models on the tasks that both were measured on; `zero_shot` names those that are so for both.

    Raises:
        InputError: they have no task in common, or were not measured on the same data.
    """
    names = [task for task in tuned.tasks if task in base.tasks]
    if not names:
        what = f"{base.model.name} and {tuned.model.name} were not measured on the same tasks"
        raise InputError.of(what, mend="Evaluate both on the same tasks.")
    for task in names:
        _same_data(task, base.tasks[task], tuned.tasks[task])
    found = compare({task: _parts(base.tasks[task], tuned.tasks[task]) for task in names}, resamples, seed)
    average = _named(found.average())
    changes = list(chain.from_iterable(_changes(task, base.tasks[task], tuned.tasks[task]) for task in names))
    changes.sort(key=lambda it: (it.base - it.tuned, it.task, it.part, it.query_id))
    return Duel(
        base=base.model.name,
        tuned=tuned.model.name,
        tasks={task: _named(of_task) for task, of_task in found.tasks.items()},
        average=average,
        zero_shot_average=_zero_shot_average(found, zero_shot or []),
        verdict=verdict(average[MAIN], [_named(of_task)[MAIN] for of_task in found.tasks.values()]),
        gained=[it for it in changes[:TOLD] if it.tuned > it.base],
        lost=[it for it in changes[: -TOLD - 1 : -1] if it.tuned < it.base],
    )


def head_to_head(models: Mapping[str, Cells]) -> dict[str, dict[str, float]]:
    """For each pair of models: the share of the cells that both have (a task, a metric) in which the first scores higher."""
    return {
        one: {
            other: _share_won(cells, theirs)
            for other, theirs in models.items()
            if other != one and cells.keys() & theirs
        }
        for one, cells in models.items()
    }


def cells(measured: Measured) -> Cells:
    """Every metric at every depth that mteb scored the model by, a mean over the parts of a task."""
    found: Cells = {}
    for task, measurement in measured.tasks.items():
        parts = [part for split in _result(measurement)["scores"].values() for part in split]
        for metric in filter(CELL.fullmatch, parts[0]):
            found[task, metric] = float(np.mean([part[metric] for part in parts]))
    return found


def _share_won(cells: Cells, theirs: Cells) -> float:
    both = [(cells[cell], theirs[cell]) for cell in cells if cell in theirs]
    return round(sum(mine > other for mine, other in both) / len(both), 4)


def _same_data(task: str, base: Measurement, tuned: Measurement) -> None:
    """
    Raises:
        InputError: the two were measured on other queries, or on another version of the task.
    """
    where, mend = f"{base.folder}, {tuned.folder}", "Evaluate both on the same data, with the same version of mteb."
    versions = [_result(it)["dataset_revision"] for it in (base, tuned)]
    if versions[0] != versions[1]:
        raise InputError.of(f"{task} was measured at two revisions: {versions[0]} and {versions[1]}", where, mend)
    keys = ["part", "query_id"]
    if not base.scores.select(keys).equals(tuned.scores.select(keys)):
        theirs = [set(zip(*(it.scores[key].to_pylist() for key in keys), strict=True)) for it in (base, tuned)]
        only = f"{len(theirs[0] - theirs[1])} only in the first, {len(theirs[1] - theirs[0])} only in the second"
        raise InputError.of(f"{task} was measured on other queries: {only}", where, mend)


def _result(measurement: Measurement) -> dict[str, Any]:
    result: dict[str, Any] = read_json(measurement.results())
    return result


def _parts(base: Measurement, tuned: Measurement) -> list[Part]:
    return list(map(Part, base.parts, tuned.parts, tuned.clusters))


def _changes(task: str, base: Measurement, tuned: Measurement) -> list[Change]:
    columns = (tuned.scores["part"], tuned.scores["query_id"], base.scores[MAIN], tuned.scores[MAIN])
    return [Change(task, *row) for row in zip(*(column.to_pylist() for column in columns), strict=True)]


def _zero_shot_average(found: Compared, zero_shot: list[str]) -> dict[str, Comparison] | None:
    names = [task for task in found.tasks if task in zero_shot]
    return _named(found.average(names)) if names else None


def _named(comparisons: list[Comparison]) -> dict[str, Comparison]:
    return dict(zip(METRICS, comparisons, strict=True))
