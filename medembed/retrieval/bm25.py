"""Passages → a BM25 index (bm25s), with the interface of the dense search: row numbers and scores, best first.

Tokens are runs of letters and digits, case-folded, single ones included («vitamin D», «hepatitis C»), without English stop words,
stemmed by Snowball.
"""

import logging
import re
from collections.abc import Iterable, Sequence

import bm25s
import numpy as np
import Stemmer
from bm25s.stopwords import STOPWORDS_EN

from medembed.retrieval.embeddings import Floats, Integers
from medembed.retrieval.search import NONE

_STOP = frozenset(STOPWORDS_EN)
logging.getLogger("bm25s").setLevel(logging.WARNING)  # it says what it does, at every step


class BM25:
    """BM25 as Lucene has it: k1 = 1.5, b = 0.75 (bm25s's defaults; Kamphuis et al. 2020)."""

    def __init__(self, passages: Iterable[str]) -> None:
        self._stemmer = Stemmer.Stemmer("english")
        self._vocabulary: dict[str, int] = {}  # stem → number
        rows = [self._numbered(text) for text in passages]
        self._size = len(rows)
        self._index = bm25s.BM25()
        if self._vocabulary:
            self._index.index((rows, self._vocabulary), create_empty_token=False, show_progress=False)

    def search(self, queries: Sequence[str], top_k: int) -> tuple[Integers, Floats]:
        """The `top_k` passages of each query, best first, equal scores in the order of their rows: row numbers, scores, both (Q, K).

        A passage without a word of the query is not found: row -1, score -inf where there are fewer.
        """
        top_k = min(top_k, self._size)
        ids = np.full((len(queries), top_k), NONE, np.int64)
        scores = np.full((len(queries), top_k), -np.inf, np.float32)
        for i, query in enumerate(queries):
            all_scores = self._scores(query)  # (P,)
            kth = np.partition(all_scores, -top_k)[-top_k] if top_k else 0
            found = np.flatnonzero((all_scores >= kth) & (all_scores > 0))
            best = found[np.lexsort((found, -all_scores[found]))][:top_k]
            ids[i, : len(best)], scores[i, : len(best)] = best, all_scores[best]
        return ids, scores

    def scores_at(self, queries: Sequence[str], rows: Integers) -> Floats:
        """The score of each query with the passages at `rows`, (Q,) or (Q, M): 0 without a common word, -inf where a row is -1."""
        scores = np.full(rows.shape, -np.inf, np.float32)
        for i, query in enumerate(queries):
            scores[i] = np.where(rows[i] == NONE, -np.inf, self._scores(query)[rows[i]])
        return scores

    def _scores(self, query: str) -> Floats:
        known = [self._vocabulary[stem] for stem in self._stems(query) if stem in self._vocabulary]
        if not known:
            return np.zeros(self._size, np.float32)
        scores: Floats = self._index.get_scores_from_ids(known)
        return scores

    def _numbered(self, text: str) -> list[int]:
        return [self._vocabulary.setdefault(stem, len(self._vocabulary)) for stem in self._stems(text)]

    def _stems(self, text: str) -> list[str]:
        words = [word for word in re.findall(r"[^\W_]+", text.casefold()) if word not in _STOP]
        stems: list[str] = self._stemmer.stemWords(words)
        return stems
