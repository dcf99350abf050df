"""Queries → passages that look right: by embeddings, by words (BM25), or by both, their ranks fused.

Scores are the embedding model's cosines wherever there is one, also for passages that only BM25 has found: a margin compares like with
like.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from medembed.mine.corpus import Corpus, Pairs
from medembed.recipe import Mine
from medembed.retrieval.embeddings import Embeddings, Floats, Integers
from medembed.retrieval.search import scores_at, search


class Embedded(NamedTuple):
    """Unit-length embeddings."""

    queries: Embeddings  # (Q, D)
    passages: Embeddings  # (P, D)


class Ranking(NamedTuple):
    """The K best passages of Q queries, and how any other passage scores."""

    ids: Integers  # (Q, K) rows of the corpus, best first; -1 where no more were found
    scores: Floats  # (Q, K)
    score: Callable[[Integers, Integers], Floats]  # rows of queries (B,) and of passages (B, M) → (B, M)


def rank(pairs: Pairs, corpus: Corpus, embedded: Embedded | None, options: Mine) -> Ranking:
    """The best passages of each query by the recipe's retrievers, as many as its last rank says."""
    top_k = min(options.ranks[1], len(corpus))
    lists: list[tuple[Integers, Floats]] = []
    if "bm25" in options.retriever:
        from medembed.retrieval.bm25 import BM25

        index = BM25(corpus.texts)
        lists.append(index.search(pairs.queries, top_k))
    if embedded:
        lists.append(search(embedded.queries, embedded.passages, top_k, options.exact_up_to))

    def score(rows: Integers, ids: Integers) -> Floats:
        if embedded:
            return scores_at(embedded.queries[rows], embedded.passages, ids)
        return index.scores_at([pairs.queries[row] for row in rows], ids)

    if len(lists) == 1:
        return Ranking(*lists[0], score)
    from medembed.retrieval.fusion import reciprocal_ranks

    fused = reciprocal_ranks(lists, top_k)
    return Ranking(fused, score(np.arange(len(pairs)), fused), score)
