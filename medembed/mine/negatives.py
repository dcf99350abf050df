"""Ranked candidates → hard negatives: which passage may stand against a query, and which only looks false.

Candidates scored too close to the positive are taken for answers that nobody labelled, and left out (positive-aware mining: Moreira et
al. 2024, «NV-Retriever»). Functions over arrays; draws are seeded by the row, so that no other row changes them.
"""

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np

from medembed.mine.corpus import Corpus, Pairs
from medembed.recipe import Mine
from medembed.retrieval.embeddings import Floats, Integers
from medembed.rows import shingles

Codes = np.ndarray[Any, np.dtype[np.int8]]
Flags = np.ndarray[Any, np.dtype[np.bool]]
Hashes = np.ndarray[Any, np.dtype[np.int64]]

# Why a candidate is no negative, in the order in which it is asked; 0: it may be one.
NOBODY, POSITIVE, NOTE, OUTSIDE, MARGIN, TWICE, NEAR = range(1, 8)
REASONS = {
    POSITIVE: "a positive of the query",
    NOTE: "of a positive's note",
    OUTSIDE: "outside min_score and max_score",
    MARGIN: "too close to the positive's score",
    TWICE: "the text of a better candidate",
    NEAR: "a near-duplicate of a positive",
}
CACHED = 4096  # passages whose word 3-grams are held, beside those of one query's positives; and answers of `is_near`


class Rules:
    """Who may be a hard negative of whom, by what the recipe says of scores, texts and notes.

    Texts and notes are compared with those of all positives of a query, whichever pair names them.
    """

    def __init__(self, pairs: Pairs, corpus: Corpus, options: Mine) -> None:
        self._pairs, self._corpus, self._options = pairs, corpus, options
        self._answers = _Met(pairs, corpus.text_numbers)
        self._notes = _Met(pairs, corpus.note_numbers)
        _, first, back = np.unique(pairs.query_numbers, return_index=True, return_inverse=True)
        self._asked = first[back]  # (Q,) where each pair's query stands first
        # (Q,) all pairs, those of a query together: whoever asks about them in this order has its positives read once.
        self.by_query = np.argsort(self._asked, kind="stable")
        self._hashed = lru_cache(CACHED)(lambda passage: _hashed(shingles(corpus.texts[passage])))
        self._likeness = lru_cache(1)(self._likeness_to)
        self._near = lru_cache(CACHED)(self._is_near)

    def codes(self, rows: Integers, ids: Integers, scores: Floats, positives: Floats, *, ranked: bool = True) -> Codes:
        """Why each candidate is no negative, or 0: (B, K). Likeness to the positive is not looked at: see `is_near`.

        `rows` (B,) of the pairs, their candidates' `ids` (B, K; -1: none) and `scores` (B, K), and their `positives`' scores (B,).
        Candidates that are not `ranked` but drawn at random never come from a positive's note.
        """
        queries = self._pairs.query_numbers[rows]
        reasons = {
            NOBODY: ids < 0,
            POSITIVE: self._answers.among(queries, ids),
            NOTE: self._notes.among(queries, ids) & (self._options.exclude_note or not ranked),
            OUTSIDE: outside(scores, self._options),
            MARGIN: too_close(scores, positives, self._options),
        }
        codes: Codes = np.select(list(reasons.values()), list(reasons), 0).astype(np.int8)
        codes[(codes == 0) & _seen_before(self._corpus.text_numbers[ids], codes == 0)] = TWICE
        return codes

    def apart(self, row: int, ids: Integers, most: int) -> tuple[list[int], list[int]]:
        """The places in `ids` of the first that are not near, for the pair `row`, at most so many; and of the near ones met on the way."""
        apart: list[int] = []
        near: list[int] = []
        for place, passage in enumerate(ids.tolist()):
            if len(apart) == most:
                break
            (near if self.is_near(row, passage) else apart).append(place)
        return apart, near

    def is_near(self, row: int, passage: int) -> bool:
        """Whether `passage` says almost what a positive of the query of the pair `row` says."""
        return self._near(int(self._asked[row]), int(passage))

    def _is_near(self, query: int, passage: int) -> bool:
        least = self._options.near_duplicate
        return least is not None and self._likeness(query).reaches(least, self._hashed(passage))

    def _likeness_to(self, query: int) -> "_Likeness":
        """To the positives of the query that stands first in the row `query`."""
        first, last = np.searchsorted(self._asked, [query, query + 1], sorter=self.by_query)
        positives = np.unique(self._pairs.positives[self.by_query[first:last]])
        return _Likeness([self._hashed(int(positive)) for positive in positives])


class _Met:
    """What the positives of each query have: their texts, or their notes, by `numbers` (P,) without gaps."""

    def __init__(self, pairs: Pairs, numbers: Integers) -> None:
        self._numbers, self._size = numbers, int(numbers.max(initial=0)) + 1
        self._known = np.unique(pairs.query_numbers * self._size + numbers[pairs.positives])

    def among(self, queries: Integers, ids: Integers) -> Flags:
        """Which of the passages `ids` (B, K) have what a positive of their query (B,) has."""
        return np.isin(queries[:, None] * self._size + self._numbers[ids], self._known)


class _Likeness:
    """How like a set is to any of N others: which of them have an element, in one sorted array (an inverted index)."""

    def __init__(self, sets: list[Hashes]) -> None:
        self._sizes = np.array([len(each) for each in sets])  # (N,)
        elements = np.concatenate(sets)  # (E,)
        order = np.argsort(elements, kind="stable")
        self._elements, self._owners = elements[order], np.repeat(np.arange(len(sets)), self._sizes)[order]

    def reaches(self, least: float, ours: Hashes) -> bool:
        """Whether the Jaccard similarity of `ours` to one of the sets is at least so much, which is above 0."""
        first, end = (np.searchsorted(self._elements, ours, side) for side in ("left", "right"))
        shared = np.flatnonzero(first < end)
        owners = np.concatenate([self._owners[:0], *(self._owners[first[i] : end[i]] for i in shared)])
        both = np.bincount(owners, minlength=len(self._sizes))  # (N,)
        return bool((both >= least * (len(ours) + self._sizes - both)).any())


def _hashed(elements: frozenset[str]) -> Hashes:
    """64 bits of each: of a million elements two agree with a probability of 3 in a hundred million."""
    return np.fromiter(map(hash, elements), np.int64, len(elements))


def outside(scores: Floats, options: Mine) -> Flags:
    """Which of the candidates' `scores` are below `min_score` or above `max_score`."""
    least = -np.inf if options.min_score is None else options.min_score
    most = np.inf if options.max_score is None else options.max_score
    out: Flags = (scores < least) | (scores > most)
    return out


def too_close(scores: Floats, positives: Floats, options: Mine) -> Flags:
    """Which of the candidates' `scores` (B, K) are not clearly below those of their positives (B,)."""
    close: Flags = scores >= ceiling(positives, options.relative_margin)[:, None]
    if options.absolute_margin is not None:
        close |= scores > (positives - np.float32(options.absolute_margin))[:, None]
    return close


def ceiling(positives: Floats, relative_margin: float | None) -> Floats:
    """What negatives must score below: that share of the positive's score, or as far below it where it is negative."""
    if relative_margin is None:
        return np.full_like(positives, np.inf)
    below: Floats = (positives - (1 - relative_margin) * np.abs(positives)).astype(np.float32)
    return below


def order(places: Integers, options: Mine, key: str) -> Integers:
    """The candidates that are left, given by their ranks, in the order in which they are taken."""
    if options.sampling == "random":
        return generator(key, options.seed).permutation(places)
    if options.sampling == "spread":
        return _spread(places, options.negatives)
    return places


def generator(key: str, seed: int) -> np.random.Generator:
    """Draws for the row named `key`: the same whatever the other rows are."""
    return np.random.default_rng(list(hashlib.sha256(f"{seed}:{key}".encode()).digest()))


def _spread(places: Integers, at_a_time: int) -> Integers:
    """So many evenly over all places, first and last among them; then so many evenly over the rest, and so on."""
    rounds = []
    while len(places):
        even = np.linspace(0, len(places) - 1, min(at_a_time, len(places))).round().astype(int)
        rounds.append(places[even])
        places = np.delete(places, even)
    return np.concatenate(rounds) if rounds else places


def _seen_before(numbers: Integers, counted: Flags) -> Flags:
    """Which numbers (B, K) stand further to the left in their row, of those that are `counted` (B, K)."""
    numbers = np.where(counted, numbers, -1 - np.arange(numbers.shape[1]))  # what is not counted equals nothing
    by_number = np.argsort(numbers, axis=1, kind="stable")
    ordered = np.take_along_axis(numbers, by_number, axis=1)
    seen = np.zeros(numbers.shape, dtype=bool)
    np.put_along_axis(seen, by_number[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return seen
