"""Is the difference real? The scores of two models on the same queries in; differences, intervals, p-values and a verdict out.

A paired bootstrap: the same queries are drawn for both models, so that what makes a query hard for both cancels out. Queries that
hang together (about one note) are drawn together. The mean over tasks is resampled within each task, since the tasks are given and
their queries are the sample.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Verdict = Literal["WIN", "MARGINAL", "REGRESSION"]
LEVEL = 0.05  # of p-values; intervals hold 1 - LEVEL
FEW = 10  # clusters: with fewer, a bootstrap finds differences where there are none, more often than it says
BLOCK = 1 << 18  # queries drawn at once: what stays in the processor's cache is drawn several times as fast


class Part(NamedTuple):
    """A subset and split of a task: what two models score on the same Q queries, by M metrics."""

    base: Floats  # (Q, M)
    tuned: Floats  # (Q, M)
    clusters: NDArray[Any] | None = None  # (Q,) queries with the same value hang together; each stands alone when none


@dataclass(frozen=True)
class Comparison:
    """The mean scores (0 to 1) of two models and their difference, tuned - base: how large, how sure, on how many queries."""

    base: float
    tuned: float
    difference: float
    low: float  # of the 95 % interval
    high: float
    p: float  # two-sided: below 0.05 where the interval leaves zero out
    corrected_p: float  # for the number of tasks (Holm 1979)
    wins: int  # queries on which tuned scores higher
    ties: int
    losses: int


@dataclass(frozen=True)
class Compared:
    """Two models on several tasks, one comparison a metric for each; `average` compares their means over some of them."""

    tasks: dict[str, list[Comparison]]
    means: dict[str, Floats]  # (2, M)
    drawn: dict[str, Floats]  # (resamples, M) mean differences

    def average(self, names: Iterable[str] | None = None) -> list[Comparison]:
        """The comparison of the means over the tasks with these names; over all when none are given."""
        names = list(self.tasks if names is None else names)
        means = np.mean([self.means[name] for name in names], axis=0)
        drawn = np.mean([self.drawn[name] for name in names], axis=0)
        queries = np.sum([[(it.wins, it.ties, it.losses) for it in self.tasks[name]] for name in names], axis=0)
        return _comparisons(means, drawn, queries)


def compare(tasks: Mapping[str, Sequence[Part]], resamples: int, seed: int) -> Compared:
    """Compare two models on each task.

    As in mteb, a task's score is the mean over its parts of the mean over a part's queries. What is drawn for a task hangs on `seed`
    and its name alone: it is the same whatever other tasks and models there are.
    """
    means, drawn, found = {}, {}, {}
    for name, parts in tasks.items():
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        means[name] = np.mean([(part.base.mean(axis=0), part.tuned.mean(axis=0)) for part in parts], axis=0)
        drawn[name] = _resample(parts, resamples, generator)
        found[name] = _comparisons(means[name], drawn[name], np.sum([_outcomes(part) for part in parts], axis=0))
    return Compared(_corrected(found), means, drawn)


def verdict(average: Comparison, tasks: Iterable[Comparison]) -> Verdict:
    """WIN: better on average and worse on no task; REGRESSION: worse on average or on any task; MARGINAL: neither.

    Better and worse on average mean that the whole interval lies above or below zero; worse on a task, that its corrected p-value is
    below 0.05, so that of many tasks one does not fall by chance.
    """
    if average.high < 0 or any(task.difference < 0 and task.corrected_p < LEVEL for task in tasks):
        return "REGRESSION"
    return "WIN" if average.low > 0 else "MARGINAL"


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of one family, corrected: the chance that any of them is that small by chance (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return [round(float(p), 6) for p in corrected]


def _resample(parts: Sequence[Part], resamples: int, generator: np.random.Generator) -> Floats:
    """Draw the queries of a task again and again, K clusters at a time: the means over its parts of mean differences (resamples, M).

    What is in several parts, such as a query in several languages, is drawn for all of them at once. How often each cluster is drawn is
    counted, and the counts multiplied with its sums: block by block, so that memory does not grow with the number of resamples.
    """
    names = [
        np.array([f"{number} {row}" for row in range(len(part.base))])
        if part.clusters is None
        else part.clusters.astype(str)
        for number, part in enumerate(parts)
    ]
    known, cluster_of = np.unique(np.concatenate(names), return_inverse=True)
    clusters, metrics = len(known), parts[0].base.shape[1]
    if clusters < FEW:  # too few to tell what others would give: any difference is possible
        return np.repeat(np.resize([-1.0, 1.0], resamples)[:, None], metrics, axis=1)
    sums_and_sizes = []  # of each part: (K, M), (K,)
    for part, of_part in zip(parts, np.split(cluster_of, np.cumsum([len(it) for it in names])[:-1]), strict=True):
        columns = [np.bincount(of_part, column, clusters) for column in (part.tuned - part.base).T]
        sums_and_sizes.append((np.stack(columns, axis=1), np.bincount(of_part, minlength=clusters).astype(np.float64)))
    means = []
    for start in range(0, resamples, block := max(1, BLOCK // clusters)):
        rows = min(block, resamples - start)
        drawn = generator.integers(clusters, size=(rows, clusters))
        cells = (drawn + clusters * np.arange(rows)[:, None]).ravel()
        counts = np.bincount(cells, minlength=rows * clusters).reshape(rows, clusters).astype(np.float64)
        of_parts = [(counts @ sums) / np.maximum(counts @ sizes, 1)[:, None] for sums, sizes in sums_and_sizes]
        means.append(np.mean(of_parts, axis=0))
    return np.concatenate(means).round(12)  # what is zero but for rounding is zero


def _outcomes(part: Part) -> NDArray[np.int64]:
    """Wins, ties and losses of tuned over the queries: (M, 3)."""
    signs = np.sign((part.tuned - part.base).round(9))
    return np.stack([(signs == sign).sum(axis=0) for sign in (1, 0, -1)], axis=1)


def _comparisons(means: Floats, drawn: Floats, queries: NDArray[np.int64]) -> list[Comparison]:
    """(2, M) mean scores, (resamples, M) mean differences and (M, 3) outcomes → a comparison a metric, p-values as they are.

    Interval and p-value are read from the same draws: percentiles, and twice the share of draws on the other side of zero.
    """
    base, tuned = means
    low, high = np.percentile(drawn, [100 * LEVEL / 2, 100 - 100 * LEVEL / 2], axis=0)
    tail = np.minimum((drawn <= 0).sum(axis=0), (drawn >= 0).sum(axis=0))
    p = np.minimum(2 * (1 + tail) / (1 + len(drawn)), 1)
    rows = np.stack([base, tuned, tuned - base, low, high, p, p], axis=1).round(6)  # (M, 7)
    return [Comparison(*row, *of_queries) for row, of_queries in zip(rows.tolist(), queries.tolist(), strict=True)]


def _corrected(tasks: dict[str, list[Comparison]]) -> dict[str, list[Comparison]]:
    """The comparisons of all tasks, with the p-values of each metric corrected for the number of tasks."""
    by_metric = [holm([task[metric].p for task in tasks.values()]) for metric in range(len(next(iter(tasks.values()))))]
    return {
        name: [replace(it, corrected_p=by_metric[metric][number]) for metric, it in enumerate(found)]
        for number, (name, found) in enumerate(tasks.items())
    }
