"""Is the difference real? Per-query scores of two models in; differences, 95 % intervals and a verdict out.

A paired bootstrap: the same queries are drawn for both models, so that what makes a query hard for both cancels out.
The mean over tasks is resampled within each task, since the tasks are given and their queries are the sample.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Parts = Sequence[tuple[Floats, Floats]]
"""A task's parts (its subsets and splits): the scores of base and of tuned model on the same queries, (queries, metrics) each."""

Verdict = Literal["WIN", "MARGINAL", "REGRESSION"]
BLOCK = 1 << 20  # queries drawn at once: 8 MB of indices


@dataclass(frozen=True)
class Comparison:
    """The mean scores (0 to 1) of two models, their difference, and its 95 % interval."""

    base: float
    tuned: float
    difference: float
    low: float
    high: float


def compare(
    tasks: Mapping[str, Parts], resamples: int, seed: int
) -> tuple[dict[str, list[Comparison]], list[Comparison]]:
    """Compare the models on each task, and on the mean over tasks: one comparison a metric.

    As in mteb, a task's score is the mean over its parts of the mean over a part's queries.
    """
    generator = np.random.default_rng(seed)
    means = {
        task: np.mean([(base.mean(axis=0), tuned.mean(axis=0)) for base, tuned in parts], axis=0)  # (2, metrics)
        for task, parts in tasks.items()
    }
    drawn = {
        task: np.mean([_resample(tuned - base, resamples, generator) for base, tuned in parts], axis=0)
        for task, parts in tasks.items()
    }
    average = _comparisons(np.mean(list(means.values()), axis=0), np.mean(list(drawn.values()), axis=0))
    return {task: _comparisons(means[task], drawn[task]) for task in tasks}, average


def verdict(average: Comparison, tasks: Iterable[Comparison]) -> Verdict:
    """WIN: better on average and worse on no task; REGRESSION: worse on average or on any task; MARGINAL: neither.

    Better and worse mean that the whole interval lies above or below zero.
    """
    if average.high < 0 or any(task.high < 0 for task in tasks):
        return "REGRESSION"
    return "WIN" if average.low > 0 else "MARGINAL"


def _resample(differences: Floats, resamples: int, generator: np.random.Generator) -> Floats:
    """Draw the queries again and again: (queries, metrics) → mean differences (resamples, metrics).

    Block by block, so that memory does not grow with the number of resamples.
    """
    queries = len(differences)
    block = max(1, BLOCK // queries)
    means = [
        differences[generator.integers(queries, size=(min(block, resamples - start), queries))].mean(axis=1)
        for start in range(0, resamples, block)
    ]
    return np.concatenate(means)


def _comparisons(means: Floats, drawn: Floats) -> list[Comparison]:
    """(2, metrics) mean scores and (resamples, metrics) mean differences → a comparison a metric, percentile intervals."""
    base, tuned = means
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    rows = np.stack([base, tuned, tuned - base, low, high], axis=1).round(6)  # (metrics, 5)
    return [Comparison(*row) for row in rows.tolist()]
