"""The nearest passages of queries: embeddings in; row numbers, scores and ranks out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from medembed.retrieval.embeddings import Floats

Integers = np.ndarray[Any, np.dtype[np.int64]]
QUERIES = 256  # at a time: memory grows with passages × this


def search(queries: Floats, passages: Floats, top_k: int) -> tuple[Integers, Floats]:
    """The `top_k` nearest passages of each query by cosine, best first: row numbers and scores, both (Q, K)."""
    from sentence_transformers.util import dot_score, semantic_search

    hits = semantic_search(queries, passages, top_k=min(top_k, len(passages)), score_function=dot_score)
    ranked = [sorted(row, key=lambda hit: (-hit["score"], hit["corpus_id"])) for row in hits]
    ids = np.array([[hit["corpus_id"] for hit in row] for row in ranked], dtype=np.int64)  # (Q, K)
    scores = np.array([[hit["score"] for hit in row] for row in ranked], dtype=np.float32)  # (Q, K)
    return ids, scores


def ranks_of(
    queries: Floats, passages: Floats, positives: Integers, ignored: Sequence[Integers] | None = None
) -> tuple[Integers, Floats]:
    """The rank of each query's positive among all passages (1: none scores higher) and its score, both (Q,).

    `positives` (Q,) are row numbers of `passages`; `ignored` are, for each query, rows that do not count (its other positives).
    """
    ranks, scores = np.empty(len(queries), np.int64), np.empty(len(queries), np.float32)
    for start in range(0, len(queries), QUERIES):
        block = slice(start, start + QUERIES)
        all_scores = queries[block] @ passages.T  # (B, P)
        own = all_scores[np.arange(len(all_scores)), positives[block]]  # (B,)
        ranks[block], scores[block] = 1 + (all_scores > own[:, None]).sum(axis=1), own
    for i, others in enumerate(ignored or ()):
        ranks[i] -= np.count_nonzero(passages[others] @ queries[i] > scores[i])
    return ranks, scores
