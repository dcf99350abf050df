"""The nearest passages of queries: embeddings in; row numbers, scores and ranks out. Exact, in memory that is a few tiles.

Scores are made tile by tile (queries × passages); only those above a query's K-th best so far are looked at again. Embeddings from
`encode` give the same scores in every function here, to the last bit.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from medembed.retrieval.embeddings import Embeddings, Floats, Integers

PASSAGES, QUERIES = 8192, 512  # of a tile: 16 MB of scores, which the allocator keeps and gives again
NONE = -1  # the row number where a query finds no more passages


def search(
    queries: Embeddings | Floats, passages: Embeddings | Floats, top_k: int, exact_up_to: int | None = None
) -> tuple[Integers, Floats]:
    """The `top_k` nearest passages of each query by cosine, best first: row numbers and scores, both (Q, K).

    Equal scores stand in the order of their rows; K is the number of passages where that is less. Above `exact_up_to` passages an
    approximate index searches (`approximate.py`), and may find fewer: row -1, score -inf.

    Raises:
        InputError: an approximate index is needed, and FAISS is not installed.
    """
    if exact_up_to is not None and len(passages) > exact_up_to:
        from medembed.retrieval.approximate import Index

        return Index(passages).search(queries, top_k)
    top_k = min(top_k, len(passages))
    if not len(queries) or not top_k:
        return np.empty((len(queries), top_k), np.int64), np.empty((len(queries), top_k), np.float32)
    best = [_Best(rows.stop - rows.start, top_k) for rows in _slices(len(queries), QUERIES)]
    for rows, columns, tile in _tiles(queries, passages, max(PASSAGES, top_k)):
        best[rows.start // QUERIES].offer(tile, columns.start)
    ids, scores = zip(*(each.ranked() for each in best), strict=True)
    return np.concatenate(ids), np.concatenate(scores)


def ranks_of(
    queries: Embeddings | Floats, passages: Embeddings | Floats, positives: Integers
) -> tuple[Integers, Floats]:
    """The rank of each query's positive among all passages (1: none scores higher) and its score, both (Q,).

    `positives` (Q,) are row numbers of `passages`.
    """
    own = scores_at(queries, passages, positives)  # (Q,)
    ranks = np.ones(len(queries), np.int64)
    for rows, _, tile in _tiles(queries, passages, PASSAGES):
        ranks[rows] += tile.count_above(own[rows])
    return ranks, own


def scores_at(queries: Embeddings | Floats, passages: Embeddings | Floats, rows: Integers) -> Floats:
    """The cosine of each query with the passages at `rows`, (Q,) or (Q, M); -inf where a row is -1."""
    found = np.full(rows.shape, -np.inf, np.float32)
    for part in _slices(len(queries), QUERIES):
        theirs = passages[rows[part]].astype(np.float32)  # (B, D) or (B, M, D)
        cosines = np.einsum("qd,q...d->q...", queries[part].astype(np.float32), theirs)
        found[part] = np.where(rows[part] == NONE, -np.inf, cosines)
    return found


class _Tile:
    """The scores of B queries with P passages, by numpy."""

    def __init__(self, queries: Floats, passages: Floats) -> None:
        self.scores: Floats = queries @ passages.T  # (B, P)

    def kth(self, k: int) -> Floats:
        """The k-th highest score of each query, (B,)."""
        return np.partition(self.scores, -k, axis=1)[:, -k]

    def above(self, floor: Floats) -> tuple[Integers, Integers, Floats]:
        """Which query, which passage and what score, where it exceeds the query's `floor` (B,)."""
        at = np.flatnonzero(self.scores > floor[:, None])
        query, passage = np.divmod(at, self.scores.shape[1])
        return query, passage, self.scores.ravel()[at]

    def count_above(self, floor: Floats) -> Integers:
        counts: Integers = np.count_nonzero(self.scores > floor[:, None], axis=1)
        return counts


class _TorchTile:
    """The same by torch, on a GPU: only what exceeds the floor leaves it."""

    def __init__(self, queries: Floats, passages: Floats, device: str = "cuda") -> None:
        import torch

        self.scores = torch.from_numpy(queries).to(device) @ torch.from_numpy(passages).to(device).T

    def kth(self, k: int) -> Floats:
        found: Floats = self.scores.topk(k, dim=1).values[:, -1].cpu().numpy()
        return found

    def above(self, floor: Floats) -> tuple[Integers, Integers, Floats]:
        at = self._exceeds(floor).nonzero(as_tuple=True)
        query, passage, score = (each.cpu().numpy() for each in (*at, self.scores[at]))
        return query, passage, score

    def count_above(self, floor: Floats) -> Integers:
        counts: Integers = self._exceeds(floor).sum(dim=1).cpu().numpy()
        return counts

    def _exceeds(self, floor: Floats) -> Any:
        import torch

        return self.scores > torch.from_numpy(floor).to(self.scores.device)[:, None]


def _tiles(queries: Any, passages: Any, width: int) -> Iterator[tuple[slice, slice, _Tile | _TorchTile]]:
    """All scores, tile by tile: rows of the queries, rows of the passages, their scores. The passages are read once, in order."""
    import torch

    tile = _TorchTile if torch.cuda.is_available() else _Tile
    for columns in _slices(len(passages), width):
        block = passages[columns].astype(np.float32)  # (P, D)
        for rows in _slices(len(queries), QUERIES):
            yield rows, columns, tile(queries[rows].astype(np.float32), block)


class _Best:
    """The K best passages so far of a block of B queries."""

    def __init__(self, queries: int, top_k: int) -> None:
        self.queries, self.top_k = queries, top_k
        self.floor: Floats | None = None  # (B,) the K-th best when last looked: what does not exceed it is out
        self.waiting: list[
            tuple[Integers, Integers, Floats]
        ] = []  # query, passage, score; the first are the best so far

    def offer(self, tile: _Tile | _TorchTile, first: int) -> None:
        """Take the scores of passages `first` and on, which come after all that were offered before."""
        if self.floor is None:  # the first tile is at least K wide
            self.floor = np.nextafter(tile.kth(self.top_k), np.float32(-np.inf))
        query, passage, score = tile.above(self.floor)
        self.waiting.append((query, passage + first, score))
        if sum(len(query) for query, _, _ in self.waiting) > 3 * self.queries * self.top_k:
            self._settle()

    def _settle(self) -> None:
        """Keep the K best of each query; the others can never come back."""
        query, passage, score = (np.concatenate(parts) for parts in zip(*self.waiting, strict=True))
        order = np.lexsort((passage, -score, query))
        starts = np.searchsorted(query[order], np.arange(self.queries))
        kept = order[(starts[:, None] + np.arange(self.top_k)).ravel()]
        self.waiting = [(query[kept], passage[kept], score[kept])]
        self.floor = score[kept][self.top_k - 1 :: self.top_k]

    def ranked(self) -> tuple[Integers, Floats]:
        self._settle()
        shape = (self.queries, self.top_k)
        _, passage, score = self.waiting[0]
        return passage.reshape(shape), score.reshape(shape)


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
