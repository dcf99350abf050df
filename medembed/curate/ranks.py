"""How well each query finds its own positive: pairs and passages on disk in; a rank and a score for each pair out.

Passages that say the same count once, and what else answers the same query does not count against a pair. What was ranked is kept
for this recipe's next filter with the same retriever: it asks about some of the same pairs and the same passages.
"""

import hashlib
import json
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medembed import models, tables
from medembed.curate.sieve import Row, Stored
from medembed.recipe import Model
from medembed.retrieval.embeddings import Floats, Integers, encode
from medembed.retrieval.search import ranks_of
from medembed.rows import content_id, fold, passage_input
from medembed.run import replacing

BATCH = 32


class Ranked(NamedTuple):
    """N distinct pairs, among P distinct passages."""

    keys: "np.ndarray[Any, np.dtype[np.uint64]]"  # (N,) ascending
    ranks: Integers  # (N,) 1: no passage scores higher than the pair's own
    scores: Floats  # (N,) cosines
    passages: int  # P

    def at(self, row: Row) -> int:
        """Where the pair `row` stands."""
        return int(np.searchsorted(self.keys, np.uint64(_key(row))))


def ranked(retriever: Model, stored: Stored) -> Ranked:
    """The ranks of all pairs; read where they stand, else made with the retriever.

    Raises:
        RunError: the retriever gives numbers that are none.
    """
    asked = np.unique(np.fromiter(map(_key, stored.pairs()), np.uint64))
    if not len(asked):
        return Ranked(asked, np.empty(0, np.int64), np.empty(0, np.float32), 0)
    path = stored.scratch / f"ranks-{_made_by(retriever, stored)}.npz"
    if (found := _read(path)) is None or len(np.setdiff1d(asked, found.keys)):
        found = _ranked(retriever, stored)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **found._asdict())
    return found


def _key(row: Row) -> int:
    return int(content_id(row["query"], row["passage_id"]), 16)


def _made_by(retriever: Model, stored: Stored) -> str:
    """What a rank depends on, besides the pair: the model as it is used, and all passages (ids are hashes of contents)."""
    said = retriever.model_dump(mode="json", include={"max_length", "prompts"})
    made_by = hashlib.sha256(json.dumps([models.resolve(retriever).revision, said]).encode())
    for passage in stored.passages():
        made_by.update(passage["passage_id"].encode())
    return made_by.hexdigest()[:32]


def _read(path: Path) -> Ranked | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return Ranked(file["keys"], file["ranks"], file["scores"], int(file["passages"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # there is none, or a damaged one
        return None


def _ranked(retriever: Model, stored: Stored) -> Ranked:
    texts, row_of = _distinct_passages(stored)
    asked = pq.read_table(stored.pairs_path, columns=["query", "passage_id"])
    keys, first = np.unique(np.fromiter(map(_key, stored.pairs()), np.uint64), return_index=True)
    queries, passage_ids = (column.take(pa.array(first)) for column in asked.columns)
    positives = np.fromiter((row_of[passage_id] for passage_id in passage_ids.to_pylist()), np.int64)

    folded = [content_id(fold(query)) for block in queries.chunks for query in block.to_pylist()]
    answers: dict[str, set[int]] = defaultdict(set)  # folded query → rows of all its positives
    for query, row in zip(folded, positives.tolist(), strict=True):
        answers[query].add(row)
    others = [np.array(sorted(answers[query] - {row}), np.int64) for query, row in zip(folded, positives, strict=True)]

    model, revision = models.load(retriever, method="dense"), models.resolve(retriever).revision
    ranks, scores = ranks_of(
        encode(model, revision, queries, "query", stored.cache, BATCH),  # (N, D)
        encode(model, revision, texts, "document", stored.cache, BATCH),  # (P, D)
        positives,
        others,
    )
    return Ranked(keys, ranks, scores, len(texts))


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
