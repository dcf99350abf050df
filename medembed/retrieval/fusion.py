"""Ranked lists of several retrievers → one, by reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""

import numpy as np

from medembed.retrieval.embeddings import Floats, Integers
from medembed.retrieval.search import NONE

K = 60  # the paper's: how little the first ranks stand out


def reciprocal_ranks(lists: list[tuple[Integers, Floats]], top_k: int) -> Integers:
    """The `top_k` rows of each query by the sum of 1 / (60 + rank) over the lists, (Q, K); -1 where the lists hold fewer.

    A list is what a search gives: rows, best first, and scores, both (Q, K_i); only the ranks count. Equal sums stand in the order
    of their rows.
    """
    rows = np.concatenate([ids for ids, _ in lists], axis=1)  # (Q, ΣK_i)
    shares = np.concatenate([1 / (K + np.arange(1, ids.shape[1] + 1)) for ids, _ in lists])  # (ΣK_i,)
    fused = np.full((len(rows), top_k), NONE, np.int64)
    for i, found in enumerate(rows):
        real = found != NONE
        distinct, at = np.unique(found[real], return_inverse=True)
        sums = np.bincount(at, shares[real], minlength=len(distinct))
        best = distinct[np.lexsort((distinct, -sums))][:top_k]
        fused[i, : len(best)] = best
    return fused
