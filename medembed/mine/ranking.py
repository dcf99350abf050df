"""Queries → passages that look right: by embeddings, by words (BM25), or by both, their ranks fused.

Scores are the embedding model's cosines wherever there is one, also for passages that only BM25 has found: a margin compares like with
like.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from medembed.mine.corpus import Corpus, Pairs
from medembed.recipe import Mine
from medembed.retrieval.embeddings import Floats
from medembed.retrieval.search import Integers, search

GATHERED = 8192  # embeddings of each side that are held at a time to score given pairs


class Ranking(NamedTuple):
    """The K best passages of Q queries, and how any other passage scores."""

    ids: Integers  # (Q, K) rows of the corpus, best first
    scores: Floats  # (Q, K)
    score: Callable[[Integers, Integers], Floats]  # queries' rows (N,), passages' rows (N,) → (N,)


class Embedded(NamedTuple):
    """Unit-length embeddings of the queries (Q, D) and the passages (P, D)."""

    queries: Floats
    passages: Floats

    def score(self, rows: Integers, ids: Integers) -> Floats:
        """Cosines of the queries `rows` (N,) with the passages `ids` (N,)."""
        cosines = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), GATHERED):
            part = slice(start, start + GATHERED)
            queries, passages = self.queries[rows[part]], self.passages[ids[part]]  # (N, D)
            cosines[part] = np.einsum("nd,nd->n", queries, passages, dtype=np.float32)
        return cosines


def rank(pairs: Pairs, corpus: Corpus, embedded: Embedded | None, options: Mine) -> Ranking:
    """The best passages of each query by the recipe's retrievers, as many as the last rank says or as there are."""
    top_k = min(options.ranks[1], len(corpus))
    lists = []
    if embedded:
        lists.append(search(embedded.queries, embedded.passages, top_k))
    if "bm25" in options.retriever:
        from medembed.retrieval import bm25

        lists.append(bm25.search(list(pairs.queries), corpus.texts, top_k))
    if len(lists) == 1:
        ((ids, scores),) = lists
    else:
        from medembed.retrieval import fusion

        ids = fusion.reciprocal_ranks(lists, top_k)
    if embedded is None:
        return Ranking(
            ids, scores, lambda rows, ids: bm25.scores_of([pairs.queries[row] for row in rows], corpus.texts, ids)
        )
    rows = np.arange(len(ids)).repeat(ids.shape[1])
    return Ranking(ids, embedded.score(rows, ids.ravel()).reshape(ids.shape), embedded.score)
