"""Keep the texts of evaluation tasks out of the training data: the recipe's list of tasks in, a sieve out.

A query goes when it is a query of a task, shares an n-gram with any text of one, or is close to one of its queries; a passage when it
shares an n-gram or is close to a passage. The tasks are what is held in memory (as hashes); our rows stream past them.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medembed import models, tables
from medembed.curate.overlap import MATCH, MOST, NGRAM, QUERY_MATCH, Overlap
from medembed.curate.sieve import Row, Sieve, Stored
from medembed.errors import InputError, all_told
from medembed.recipe import Decontaminate, Model
from medembed.rows import passage_input
from medembed.tasks import check_names, task_content, task_name
from medembed.tasks.texts import WHERE, Texts, look, tasks_meant, texts_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Kind = Literal["queries", "passages"]

NEAR = "near"
HOW: dict[Kind, tuple[str, ...]] = {"queries": (QUERY_MATCH, NGRAM, NEAR), "passages": (MATCH, NGRAM, NEAR)}
BLOCK = 8192  # texts of ours that are compared by embedding at once
BATCH = 32


@dataclass
class Found:
    """What was found of one task: how many rows of ours, by kind and by how. A row of several tasks counts for each of them."""

    name: str
    revision: str
    queries: int
    passages: int
    removed: Counter[tuple[Kind, str]] = field(default_factory=Counter)


def check(setting: Decontaminate) -> None:
    """Look whether all tasks can be read, before anything starts.

    Raises:
        InputError: with all that is wrong with any of them.
    """
    tasks = tasks_meant(setting.tasks)
    check_names(tasks, WHERE)
    if len(tasks) > MOST:
        raise InputError.of(f"{len(tasks)} tasks are more than {MOST}", WHERE)
    all_told(partial(look, task) for task in tasks)


def reads(setting: Decontaminate) -> dict[str, str]:
    """What the filter reads besides our rows, for the fingerprint of the stage: task → hash of the folder, or mteb's version."""
    return {task_name(task): task_content(task) for task in setting.tasks}


def sieve(setting: Decontaminate, stored: Stored) -> Sieve:
    """Take in the texts of all tasks, then judge rows one by one.

    Raises:
        InputError: the texts of at least one task cannot be read; no task is ever skipped.
    """
    overlap = Overlap(setting.ngram, setting.boilerplate)
    tasks = tasks_meant(setting.tasks)
    found: list[Found] = []
    all_told(partial(_take_in, task, overlap, found) for task in tasks)
    close = _Close(setting.near, setting.retriever, stored) if setting.near and setting.retriever else None
    if close:
        for number, task in enumerate(tasks):
            close.compare(number, texts_of(task))

    def judged(row: Row, kind: Kind, hows: dict[int, str], key: str) -> Row | str:
        hows = (dict.fromkeys(close.tasks(kind, key), NEAR) if close else {}) | hows
        for number, how in hows.items():
            found[number].removed[kind, how] += 1
        return f"decontaminate: {found[min(hows)].name}" if hows else row

    def pair(row: Row) -> Row | str:
        return judged(row, "queries", overlap.of_query(row["query"]), row["query"])

    def passage(row: Row) -> Row | str:
        text = passage_input(row["title"], row["text"])
        return judged(row, "passages", overlap.of_passage(text), row["passage_id"])

    return Sieve(pair, passage, partial(_facts, setting, found, overlap))


def _take_in(task: str, overlap: Overlap, found: list[Found]) -> None:
    texts = texts_of(task)
    queries, passages = overlap.add(texts.queries, texts.passages)
    if not queries + passages:
        raise InputError.of(f"{texts.name} holds no text", WHERE, "Drop it.")
    found.append(Found(texts.name, texts.revision, queries, passages))


def _facts(setting: Decontaminate, found: list[Found], overlap: Overlap) -> dict[str, Any]:
    """What the card tells: of each task what it was compared with, and what was removed for its sake."""
    tasks = {
        it.name: {
            "revision": it.revision,
            "queries": it.queries,
            "passages": it.passages,
            **({"boilerplate": overlap.boilerplate(number)} if setting.boilerplate else {}),
            "removed": {kind: {how: it.removed[kind, how] for how in HOW[kind]} for kind in HOW},
        }
        for number, it in enumerate(found)
    }
    retriever = {"retriever": str(setting.retriever.model)} if setting.retriever else {}
    said = {"ngram": setting.ngram, "boilerplate": setting.boilerplate, "near": setting.near}
    return {"tasks": tasks} | said | retriever


class _Close:
    """Texts of ours whose embedding is at least `near` (cosine) to one of a task's: queries to queries, passages to passages.

    A task's embeddings are in memory while it is compared, and ours block by block; all come from the cache when asked for again.
    """

    def __init__(self, near: float, retriever: Model, stored: Stored) -> None:
        self._near, self._stored = near, stored
        self._revision = models.resolve(retriever).revision
        self._model: SentenceTransformer = models.load(retriever, method="dense")
        self._found: dict[tuple[Kind, str], set[int]] = {}

    def tasks(self, kind: Kind, key: str) -> set[int]:
        """The numbers of the tasks that are close to the query, or to the passage of this id."""
        return self._found.get((kind, key), set())

    def compare(self, number: int, texts: Texts) -> None:
        """Look for all of our texts that are close to one of the task's."""
        queries = ((row["query"], row["query"]) for row in self._stored.pairs())
        passages = ((row["passage_id"], passage_input(row["title"], row["text"])) for row in self._stored.passages())
        self._compare(number, "queries", queries, texts.queries)
        self._compare(number, "passages", passages, texts.passages)

    def _compare(self, number: int, kind: Kind, ours: Iterable[tuple[str, str]], theirs: Iterable[str]) -> None:
        from medembed.retrieval.embeddings import encode
        from medembed.retrieval.search import search

        distinct = sorted({text for text in theirs if text.strip()})
        if not distinct:
            return
        side: Literal["query", "document"] = "query" if kind == "queries" else "document"
        embedded = partial(encode, self._model, self._revision, side=side, cache=self._stored.cache, batch_size=BATCH)
        targets = embedded(distinct)  # (theirs, D)
        for block in tables.blocks(ours, BLOCK):
            keys, mine = zip(*block, strict=True)
            _, scores = search(embedded(list(mine)), targets, top_k=1)  # (block, 1)
            for i in np.flatnonzero(scores[:, 0] >= self._near):
                self._found.setdefault((kind, keys[i]), set()).add(number)
