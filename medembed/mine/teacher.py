"""The teacher: a cross-encoder's logits for positives and pools, kept in the rows for distillation, and a second margin."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medembed import models
from medembed.mine.corpus import Corpus, Pairs, Texts, same_as
from medembed.mine.negatives import Flags
from medembed.mine.pools import Pools
from medembed.recipe import Teacher
from medembed.retrieval import together
from medembed.retrieval.embeddings import Floats, Integers
from medembed.retrieval.reranking import Grading, probabilities, score


@dataclass(frozen=True)
class Graded:
    """Logits for the positives (Q,) and the pools (Q, M); NaN where a pool holds none."""

    positives: Floats
    negatives: Floats


def graded(pairs: Pairs, corpus: Corpus, pools: Pools, teacher: Teacher, cache: Path) -> Graded:
    """Score all positives and pools, as `scored`."""
    passages = np.column_stack([pairs.positives, pools.ids])
    logits = scored(pairs, corpus, np.arange(len(pairs)), passages, teacher, cache)
    return Graded(logits[:, 0], logits[:, 1:])


def scored(pairs: Pairs, corpus: Corpus, rows: Integers, passages: Integers, teacher: Teacher, cache: Path) -> Floats:
    """The logits of the queries of the pairs `rows` (B,) with `passages` (B, K), NaN where there is none (-1).

    A query with a passage is scored once, the longest first.

    Raises:
        InputError: the model is no cross-encoder of one output.
        RunError: it gives numbers that are none.
    """
    at, places = np.nonzero(passages >= 0)
    asked = np.stack([same_as(pairs.queries)[rows[at]], passages[at, places]], axis=1)
    distinct, back = np.unique(asked, axis=0, return_inverse=True)  # (N, 2)
    lengths = _lengths(pairs.queries)[distinct[:, 0]] + _lengths(corpus.texts)[distinct[:, 1]]
    longest_first = np.argsort(-lengths, kind="stable")
    texts = _texts(pairs.queries, corpus.texts, distinct[longest_first])
    reranker, revision = models.load_reranker(teacher.model), models.resolve(teacher.model).revision
    together.share(Grading(revision, cache, teacher.batch_size), reranker, texts)
    logits = np.empty(len(distinct), np.float32)
    one_by_one = ((each["query"].as_py(), each["passage"].as_py()) for each in texts)
    logits[longest_first] = score(reranker, revision, one_by_one, cache, teacher.batch_size)
    found = np.full(passages.shape, np.nan, np.float32)
    found[at, places] = logits[back.reshape(-1)]
    return found


def _texts(queries: Texts, passages: Texts, pairs: Integers) -> pa.StructArray:
    """Structs of query and passage, (N,), for N `pairs` of their numbers: each text is in memory, and on disk, once."""
    columns = [
        pa.DictionaryArray.from_arrays(pa.array(numbers, pa.int32()), texts.column)
        for numbers, texts in zip(pairs.T, (queries, passages), strict=True)
    ]
    return pa.StructArray.from_arrays(columns, ["query", "passage"])


def too_close(negatives: Floats, positives: Floats, relative_margin: float | None) -> Flags:
    """Which negatives' logits (Q, M) are, as probabilities, at or above that share of their positives' (Q,)."""
    if relative_margin is None:
        return np.zeros(negatives.shape, dtype=bool)
    close: Flags = probabilities(negatives) >= relative_margin * probabilities(positives)[:, None]
    return close


def _lengths(texts: Texts) -> Integers:
    """Of each text, in characters."""
    return np.asarray(pc.utf8_length(texts.column), np.int64)
