"""Texts that say almost the same: word 3-grams, found by MinHash with locality-sensitive hashing, verified by their exact Jaccard.

(Broder 1997; Leskovec, Rajaraman, Ullman, «Mining of Massive Datasets», ch. 3.) Bands are chosen so that a pair just at the threshold
is found in at least 99 of 100 cases; what is found is compared, so that nothing below the threshold is ever taken for near. Held in
memory are the bands, 3 kB a text at a threshold of 0.8 and 6 kB at 0.5; the hashes of the 3-grams wait in a file without a name.
"""

import os
import tempfile
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from medembed.rows import shingles

PERMUTATIONS = 128
FOUND = 0.99  # of the pairs at the threshold
SEED = 1

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


class Near:
    """The texts met so far of which none is near an earlier one, by number."""

    def __init__(self, threshold: float, folder: Path) -> None:
        from rensa import RMinHashLSH

        folder.mkdir(parents=True, exist_ok=True)
        self._threshold = threshold
        self._bands = RMinHashLSH(threshold, PERMUTATIONS, bands(threshold))
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed, and so gone, with this object)
        self._ends: list[
            list[int]
        ] = []  # of each text, where its parts end in the file, in bytes; first, where it begins

    def earlier(self, *parts: str) -> int | None:
        """The number of the first text of which each part is near the same part of this one; if there is none, this one is kept.

        Texts are numbered from 0 in the order in which they are kept; parts are compared one by one (query with query, positive with
        positive), for in a pair's text as a whole the positive would drown the query.
        """
        from rensa import RMinHash

        # A pair whose parts all are near is near as a whole (the mediant of fractions is at least their least), so it is found.
        said = [[f"{i} {shingle}" for shingle in shingles(part)] for i, part in enumerate(parts)]
        digest = RMinHash(PERMUTATIONS, SEED)
        digest.update(list(chain(*said)))
        ours = [np.unique(np.array(part, np.uint64)) for part in RMinHash.hash_token_sets(said)]
        for number in sorted(self._bands.query(digest)):
            if self._may_be_near(number, ours) and all(
                jaccard(one, other) >= self._threshold for one, other in zip(ours, self._parts(number), strict=True)
            ):
                return int(number)
        self._bands.insert(len(self._ends), digest)
        self._keep(ours)
        return None

    def _may_be_near(self, number: int, ours: list[Hashes]) -> bool:
        """Whether the sizes allow it: no Jaccard similarity is above the smaller size by the larger one."""
        sizes = (len(part) * part.itemsize for part in ours)
        theirs = (end - start for start, end in pairwise(self._ends[number]))
        return all(min(pair) >= self._threshold * max(pair) for pair in zip(sizes, theirs, strict=True))

    def _keep(self, parts: list[Hashes]) -> None:
        ends = [self._file.seek(0, os.SEEK_END)]
        for part in parts:
            ends.append(ends[-1] + self._file.write(part.tobytes()))
        self._ends.append(ends)

    def _parts(self, number: int) -> list[Hashes]:
        ends = self._ends[number]
        self._file.seek(ends[0])
        return [np.frombuffer(self._file.read(end - start), np.uint64) for start, end in pairwise(ends)]


def bands(threshold: float) -> int:
    """The fewest bands of the digest that find a pair at the threshold in at least `FOUND` of cases."""
    numbers = [n for n in range(1, PERMUTATIONS + 1) if PERMUTATIONS % n == 0]
    return next((n for n in numbers if 1 - (1 - threshold ** (PERMUTATIONS // n)) ** n >= FOUND), PERMUTATIONS)


def jaccard(one: Hashes, other: Hashes) -> float:
    """The Jaccard similarity of two sorted sets of hashes, neither empty."""
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both)
