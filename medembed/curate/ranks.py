"""How well each query finds its own positive: pairs and passages on disk in; a rank and a score for each pair out.

Passages that say the same count once, and what else answers the same query does not count against a pair, but is told. Both hang on
the pairs that are left, so each filter that asks has them ranked anew; what was encoded for the one before is read from disk.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medembed import models, tables
from medembed.curate.sieve import Row, Stored
from medembed.recipe import Model
from medembed.retrieval.embeddings import Embeddings, Floats, Integers, blocks, encode
from medembed.retrieval.search import PASSAGES, ranks_of, scores_at
from medembed.rows import content_id, fold, passage_input

BATCH = 32


class Ranked(NamedTuple):
    """N distinct pairs, among P distinct passages."""

    keys: "np.ndarray[Any, np.dtype[np.uint64]]"  # (N,) ascending
    ranks: Integers  # (N,) 1: no passage scores higher than the pair's own, other answers of the same query aside
    answers: Integers  # (N,) passages that the pairs give for the same query, the pair's own among them
    scores: Floats  # (N,) cosines
    passages: int  # P

    def at(self, row: Row) -> int:
        """Where the pair `row` stands."""
        return int(np.searchsorted(self.keys, np.uint64(_key(row))))


def ranked(retriever: Model, stored: Stored) -> Ranked:
    """The ranks of all pairs.

    Raises:
        RunError: the retriever gives numbers that are none.
    """
    keys, first = np.unique(np.fromiter(map(_key, stored.pairs()), np.uint64), return_index=True)
    if not len(keys):
        return Ranked(keys, first, first, np.empty(0, np.float32), 0)
    texts, row_of = _distinct_passages(stored)
    asked = pq.read_table(stored.pairs_path, columns=["query", "passage_id"])
    queries, passage_ids = (column.take(pa.array(first)) for column in asked.columns)
    positives = np.fromiter((row_of[passage_id] for passage_id in passage_ids.to_pylist()), np.int64)

    model, revision = models.load(retriever, method="dense"), models.resolve(retriever).revision
    embedded = encode(model, revision, queries, "query", stored.cache, BATCH)  # (N, D)
    passages = encode(model, revision, texts, "document", stored.cache, BATCH)  # (P, D)
    ranks, scores = ranks_of(embedded, passages, positives)
    answers, higher = known_answers(embedded, passages, positives, scores, *_numbered(queries))
    return Ranked(keys, ranks - higher, answers, scores, len(texts))


def _key(row: Row) -> int:
    return int(content_id(row["query"], row["passage_id"]), 16)


def known_answers(
    queries: Embeddings, passages: Embeddings, positives: Integers, scores: Floats, spelled: Integers, said: Integers
) -> tuple[Integers, Integers]:
    """Of each pair (N,): how many passages the pairs give for its query, and how many of these score higher than its own.

    `positives` (N,) are rows of `passages`, `scores` (N,) theirs. Pairs of one number `said` (N,) ask the same, those of one number
    `spelled` (N,) to the letter, and so have the same embedding: their answers are scored once, however many pairs they are.
    """
    answers, higher = np.ones(len(positives), np.int64), np.zeros(len(positives), np.int64)
    for same in _groups(said):
        known = np.unique(positives[same])
        answers[same] = len(known)
        for equal in _groups(spelled[same]) if len(known) > 1 else []:
            rows = same[equal]
            parts = [known[None, part] for part in blocks(known, PASSAGES)]
            theirs = np.concatenate([scores_at(queries[rows[:1]], passages, part)[0] for part in parts])
            higher[rows] = len(known) - np.searchsorted(np.sort(theirs), scores[rows], side="right")
    return answers, higher


def _numbered(queries: pa.ChunkedArray) -> tuple[Integers, Integers]:
    """Numbers for queries, both (N,): equal for those that are equal to the letter, and for those that are so when folded."""
    spelled = np.asarray(queries.combine_chunks().dictionary_encode().indices, np.int64)
    each = (query for chunk in queries.chunks for query in chunk.to_pylist())
    folded = np.fromiter((int(content_id(fold(query) or query), 16) for query in each), np.uint64, len(queries))
    return spelled, np.unique(folded, return_inverse=True)[1]


def _groups(numbers: Integers) -> list[Integers]:
    """The places of each number."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def _distinct_passages(stored: Stored) -> tuple[pa.ChunkedArray, dict[str, int]]:
    """The passages as they are embedded, those that say the same once; and the row there of each passage's id."""
    row_of: dict[str, int] = {}
    seen: dict[str, int] = {}

    def distinct() -> Iterator[str]:
        for passage in stored.passages():
            text = passage_input(passage["title"], passage["text"])
            content = content_id(fold(text) or text)
            if content not in seen:
                seen[content] = len(seen)
                yield text
            row_of[passage["passage_id"]] = seen[content]

    texts = [pa.array(block, pa.large_string()) for block in tables.blocks(distinct())]
    return pa.chunked_array(texts, pa.large_string()), row_of
