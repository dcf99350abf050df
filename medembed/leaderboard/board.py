"""Results of many revisions in; one row a model out: its scores, their means, and its difference from the model that it was tuned from.

Where several results tell the score of one model on one task, mteb's rule chooses: the revision that its registry names, then one
that mteb measured over one that authors report, then the newest mteb. Of equals, ours.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from medembed.leaderboard.results import EXTERNAL, Facts, Found, Result
from medembed.leaderboard.snapshot import Snapshot, Source
from medembed.leaderboard.tasks import BENCHMARK, HEADLINE, TASKS, Part

SIZES = {"≤ 50M": 50e6, "≤ 150M": 150e6, "≤ 400M": 400e6, "larger": float("inf")}
UNKNOWN_SIZE = "size not declared"

ANCHORS = (
    r"abhinand/MedEmbed-(small|base|large)-v0\.1",
    r"BAAI/bge-(small|base|large)-en-v1\.5",
    r"sentence-transformers/all-MiniLM-L6-v2",
    r"Snowflake/snowflake-arctic-embed-(s|m-v1\.5|l-v2\.0)",
    r"thenlper/gte-(small|base|large)",
    r"intfloat/e5-(small|base|large)-v2",
    r"nomic-ai/nomic-embed-text-v1\.5",
    r"ibm-granite/granite-embedding-(30m|125m)-english",
    r"nvidia/NV-Embed-v2",
    r"codefuse-ai/F2LLM-v2-(80M|330M|0\.6B|4B|14B)",
    r"Qwen/Qwen3-Embedding-(0\.6B|4B|8B)",
)
"""Models that everybody compares with, as patterns of their names: they are in each table and picture."""


@dataclass(frozen=True)
class Score:
    """A model's score on a task (0 to 1; None when a part is missing), where it comes from, and its parts."""

    value: float | None
    revision: str
    link: str
    parts: Mapping[Part, float]


@dataclass(frozen=True)
class Row:
    """One model. `scores` by task; `headline` likewise, of the headline's parts; means are None while a task is missing."""

    model: str
    facts: Facts
    scores: Mapping[str, Score]
    headline: Mapping[str, float | None]
    ours: bool = False
    base: str = ""  # the model that it was tuned from, where that has a row
    difference: float | None = None  # of the headline's mean from the base's
    speed: float | None = None  # embeddings a second

    @property
    def mean(self) -> float | None:
        return _mean([self.headline[task] for task in HEADLINE])

    @property
    def benchmark(self) -> float | None:
        return _mean([self.scores[task].value if task in self.scores else None for task in BENCHMARK])

    @property
    def zero_shot(self) -> float | None:
        """The share of the leaderboard's tasks whose data the model was not trained on; None when it is not declared."""
        trained = self.facts.trained_on
        return None if trained is None else 1 - len(trained) / len(TASKS)

    @property
    def size(self) -> str:
        parameters = self.facts.parameters
        return next((size for size, most in SIZES.items() if parameters <= most), "") if parameters else UNKNOWN_SIZE

    @property
    def anchor(self) -> bool:
        return any(re.fullmatch(pattern, self.model) for pattern in ANCHORS)

    @property
    def revision(self) -> str:
        """The revision that most of the scores are of."""
        counts = Counter(score.revision for score in self.scores.values())
        return max(counts, key=lambda revision: (counts[revision], revision != EXTERNAL, revision))


class Speeds(BaseModel):
    """How fast models are: all measured on one device, or they could not be compared."""

    model_config = ConfigDict(extra="forbid")

    device: str
    embeddings_per_second: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(min_length=1)


@dataclass(frozen=True)
class Board:
    """The rows in the order of the tables, with what was counted on the way, and where the figures come from."""

    rows: list[Row]
    sources: list[Source] = field(default_factory=list)
    counts: Mapping[str, int] = field(default_factory=dict)
    device: str = ""  # on which speeds were measured

    def of_size(self, size: str) -> list[Row]:
        return [row for row in self.rows if row.size == size]


def make(published: Snapshot, ours: Found, speeds: Speeds | None = None) -> Board:
    """Join the snapshot's results and ours into one row a model."""
    facts = published.facts | {model: _merged(model, found, published) for model, found in ours.facts.items()}
    choices: dict[str, dict[str, list[tuple[bool, Result]]]] = defaultdict(lambda: defaultdict(list))
    counts = Counter(ours.rejects)
    measured_here = _of_one_revision(ours.results, facts)
    if others := len(ours.results) - len(measured_here):
        counts["scores of another revision, or told twice"] += others
    for is_ours, results in ((True, measured_here), (False, published.results)):
        for result in results:
            choices[result.model][result.task].append((is_ours, result))
    rows: dict[str, Row] = {}
    measured = speeds.embeddings_per_second if speeds else {}
    for model in sorted(choices):
        known = facts.get(model, Facts())
        scores = {}
        for task, several in choices[model].items():
            is_ours, chosen = max(several, key=lambda choice: _rank(choice[1], known))
            scores[task] = _score(chosen, quote(f"results/{chosen.file}") if is_ours else published.link(chosen))
            if others := len(several) - 1:
                counts["scores of another revision, or told twice"] += others
        headline = {task: _mean([_part(scores, task, part) for part in HEADLINE[task]]) for task in HEADLINE}
        is_ours = any(of_ours for several in choices[model].values() for of_ours, _ in several)
        rows[model] = Row(model, known, scores, headline, ours=is_ours, speed=measured.get(model))
    counts["results"] = sum(len(row.scores) for row in rows.values())
    return Board(_ordered(_compared(rows)), published.sources, dict(counts), speeds.device if speeds else "")


def _of_one_revision(results: list[Result], facts: Mapping[str, Facts]) -> list[Result]:
    """Of each model the results of one revision, the registry's or else the one with most: a mean over two would be no model's."""
    counted = Counter((result.model, result.revision) for result in results)
    chosen: dict[str, str] = {}
    for model, revision in sorted(
        counted, key=lambda it: (it[1] == facts.get(it[0], Facts()).revision, counted[it], it)
    ):
        chosen[model] = revision
    return [result for result in results if result.revision == chosen[result.model]]


def _rank(result: Result, facts: Facts) -> tuple[bool, bool, tuple[int, ...]]:
    """Of several results the one with the highest rank is told; `max` keeps the first of equals."""
    version = tuple(int(number) for number in re.findall(r"\d{1,9}", result.mteb_version)[:3])
    return result.revision == facts.revision, result.revision != EXTERNAL, version


def _score(result: Result, link: str) -> Score:
    """The mean over the parts of the task, all of which must be there; parts that are not of the task are left out."""
    parts = {
        (split, subset): result.scores[split][subset]
        for split, subset in TASKS[result.task].parts
        if subset in result.scores.get(split, {})
    }
    return Score(_mean([parts.get(part) for part in TASKS[result.task].parts]), result.revision, link, parts)


def _part(scores: Mapping[str, Score], task: str, part: Part) -> float | None:
    return scores[task].parts.get(part) if task in scores else None


def _mean(values: list[float | None]) -> float | None:
    """The mean of `values`, None when one is missing."""
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 6) if known and len(known) == len(values) else None


def _merged(model: str, found: Facts, published: Snapshot) -> Facts:
    """Facts of a model of ours; what is published of the same model goes before; it was trained on what its base was, too."""
    if known := published.facts.get(model):
        return known
    if found.trained_on is None or not found.base:
        return found
    base = published.facts.get(found.base)
    both = None if base is None or base.trained_on is None else (*found.trained_on, *base.trained_on)
    return found.model_copy(update={"trained_on": both and tuple(task for task in TASKS if task in both)})


def _compared(rows: dict[str, Row]) -> list[Row]:
    """The rows, each with its difference from the row of its base, where there is one."""
    compared = []
    for row in rows.values():
        base = rows.get(row.facts.base)
        if base is None or base.model == row.model:
            compared.append(row)
            continue
        known = row.mean is not None and base.mean is not None
        difference = round(row.mean - base.mean, 6) if known else None  # type: ignore[operator]
        compared.append(replace(row, base=base.model, difference=difference))
    return compared


def _ordered(rows: list[Row]) -> list[Row]:
    """By size; within one the best families first, and in a family the base before what was tuned from it."""
    by_name = {row.model: row for row in rows}

    def eldest(row: Row) -> str:
        """The base of the base … that is of the same size."""
        seen = {row.model}
        while (base := by_name.get(row.base)) and base.size == row.size and base.model not in seen:
            row = base
            seen.add(row.model)
        return row.model

    best: dict[str, float] = defaultdict(float)
    for row in rows:
        best[eldest(row)] = max(best[eldest(row)], row.mean or 0)
    sizes = [*SIZES, UNKNOWN_SIZE]

    def place(row: Row) -> tuple[int, float, str, bool, float, str]:
        family = eldest(row)
        return sizes.index(row.size), -best[family], family, row.model != family, -(row.mean or 0), row.model

    return sorted(rows, key=place)
