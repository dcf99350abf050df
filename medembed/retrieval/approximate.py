"""An approximate index for corpora too large to be searched in full: FAISS's inverted lists over fp16 vectors.

K-means cuts the passages into lists; a query looks into the nearest few. Training is seeded, and what is found is scored and ranked
as the exact search does it.
"""

import math
from typing import Any

import numpy as np

from medembed.errors import InputError
from medembed.retrieval.embeddings import Embeddings, Floats, Integers
from medembed.retrieval.search import NONE, scores_at

PROBES = 12  # lists that a query looks into
SAMPLE = 40  # passages a list that k-means is trained on: FAISS warns below 39
BLOCK = 50_000  # passages added at a time
SEED = 1234


def faiss() -> Any:
    """The library.

    Raises:
        InputError: it is not installed.
    """
    try:
        import faiss as library
    except ImportError as error:
        mend = "Install it: `pip install 'medembed[faiss]'`, or raise `mine.exact_up_to` for an exact search."
        raise InputError.of("FAISS is needed for so many passages, and is not installed", mend=mend) from error
    return library


class Index:
    """Lists of passages, about √P of them."""

    def __init__(self, passages: Embeddings | Floats) -> None:
        """
        Raises:
            InputError: FAISS is not installed.
        """
        library = faiss()
        self.passages = passages
        count, dimensions = passages.shape
        lists = max(1, math.isqrt(count))
        quantizer = library.IndexFlatIP(dimensions)
        kind = library.ScalarQuantizer.QT_fp16  # exact for what `encode` makes
        self._index = library.IndexIVFScalarQuantizer(quantizer, dimensions, lists, kind, library.METRIC_INNER_PRODUCT)
        self._index.nprobe = min(PROBES, lists)
        self._index.cp.seed, self._index.cp.spherical = SEED, True
        sample = np.random.default_rng(SEED).choice(count, min(count, SAMPLE * lists), replace=False)
        self._index.train(passages[np.sort(sample)].astype(np.float32))
        for start in range(0, count, BLOCK):
            self._index.add(passages[start : start + BLOCK].astype(np.float32))

    def search(self, queries: Embeddings | Floats, top_k: int) -> tuple[Integers, Floats]:
        """As `search.search`; row -1 and score -inf where a query's lists hold fewer than `top_k` passages."""
        top_k = min(top_k, len(self.passages))
        _, found = self._index.search(queries.astype(np.float32), top_k)  # (Q, K)
        scores = scores_at(queries, self.passages, found)
        order = np.lexsort((found, -scores))  # best first, then by row
        ids, scores = np.take_along_axis(found, order, 1), np.take_along_axis(scores, order, 1)
        return np.where(np.isneginf(scores), NONE, ids), scores
