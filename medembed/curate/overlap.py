"""Which evaluation tasks does a text share words with? The tasks' texts in, once; then any number of texts, one at a time.

Of the tasks nothing is kept but hashes: 8 bytes for each distinct n-gram, in one sorted array. So memory grows with the tasks, and not
with what is compared to them.
"""

from array import array
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np

from medembed.rows import fold

Hashes = np.ndarray[Any, np.dtype[np.uint64]]

TASK = np.uint64(255)  # the low bits of a key: the number of the task
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing
MOST = 256
QUERY_MATCH, MATCH, NGRAM = "query match", "passage match", "n-gram"


class Overlap:
    """Texts are compared folded: case, punctuation and white space aside. An n-gram is `n` words in a row.

    As in open-r1 (scripts/decontaminate.py), one n-gram in common marks a text. A text of fewer than `n` words has none: it is
    compared as a whole. An n-gram that stands in at least `boilerplate` texts of a task identifies none of them, and does not count.
    """

    def __init__(self, n: int, boilerplate: int | None = None) -> None:
        self._n = n
        self._queries, self._short, self._ngrams = _Keys(), _Keys(), _Keys(boilerplate)
        self._tasks = 0

    def add(self, queries: Iterable[str], passages: Iterable[str]) -> tuple[int, int]:
        """Take in the texts of one more task; the numbers of its distinct queries and passages."""
        if self._tasks == MOST:
            raise ValueError(f"no more than {MOST} tasks")
        task, self._tasks = self._tasks, self._tasks + 1
        return self._add_all(task, queries, is_query=True), self._add_all(task, passages, is_query=False)

    def _add_all(self, task: int, texts: Iterable[str], *, is_query: bool) -> int:
        seen: set[int] = set()
        for text in texts:
            words = fold(text).split()
            whole = _whole(words)
            if not words or (number := int(whole[0])) in seen:
                continue
            seen.add(number)
            if is_query:
                self._queries.add(task, whole)
            elif len(words) < self._n:
                self._short.add(task, whole)
            self._ngrams.add(task, np.unique(ngrams(words, self._n)))
        return len(seen)

    def of_query(self, query: str) -> dict[int, str]:
        """The numbers of the tasks that a query of ours shares words with, and how: `query match` or `n-gram`."""
        words = fold(query).split()
        found = dict.fromkeys(self._ngrams.tasks(ngrams(words, self._n)), NGRAM)
        return found | dict.fromkeys(self._queries.tasks(_whole(words)), QUERY_MATCH)

    def of_passage(self, passage: str) -> dict[int, str]:
        """The same for a passage: `passage match` (one of few words, equal to one of theirs) or `n-gram`."""
        words = fold(passage).split()
        found = dict.fromkeys(self._ngrams.tasks(ngrams(words, self._n)), NGRAM)
        return found | dict.fromkeys(self._short.tasks(_whole(words)), MATCH)

    def boilerplate(self, task: int) -> int:
        """How many n-grams of a task do not count."""
        return self._ngrams.dropped(task)


class _Keys:
    """Hashes, each with the number of the task that has it: the upper 56 bits and the lower 8 of a sorted array's keys.

    Among 35 million keys (a corpus of 170,000 abstracts) a foreign n-gram meets one by chance with probability 5e-10: for a million
    passages of 100 n-grams that is 0.05 passages. What a task adds `most` times or more is dropped.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._waiting = array("Q")
        self._sorted: Hashes = np.empty(0, np.uint64)
        self._dropped = np.zeros(MOST, np.int64)  # by task

    def add(self, task: int, hashes: Hashes) -> None:
        self._waiting.frombytes(((hashes & ~TASK) | np.uint64(task)).tobytes())

    def tasks(self, hashes: Hashes) -> list[int]:
        """The tasks that have at least one of the hashes, by number."""
        self._sort()
        wanted = np.unique(hashes & ~TASK)
        place = np.searchsorted(self._sorted, wanted)
        found: set[int] = set()
        while len(place):  # a hash's keys, one for each task that has it, stand side by side
            inside = place < len(self._sorted)
            place, wanted = place[inside], wanted[inside]
            keys = self._sorted[place]
            same = keys & ~TASK == wanted
            found.update((keys[same] & TASK).tolist())
            place, wanted = place[same] + 1, wanted[same]
        return sorted(found)

    def dropped(self, task: int) -> int:
        self._sort()
        return int(self._dropped[task])

    def _sort(self) -> None:
        """Take in what waits: all that some tasks add, for nothing is looked up between two texts of a task."""
        if not self._waiting:
            return
        keys = np.frombuffer(self._waiting, np.uint64)
        keys.sort()
        kept = np.append(True, keys[1:] != keys[:-1])
        if self._most:
            first = np.flatnonzero(kept)
            often = first[np.diff(first, append=len(keys)) >= self._most]
            self._dropped += np.bincount((keys[often] & TASK).astype(np.int64), minlength=MOST)
            kept[often] = False
        keys = keys[kept]
        self._waiting = array("Q")
        self._sorted = np.sort(np.concatenate([self._sorted, keys])) if len(self._sorted) else keys


def ngrams(words: list[str], n: int) -> Hashes:
    """The hashes of all runs of `n` words, shape (max(0, len(words) - n + 1),): polynomials in hashes of the words."""
    hashed = np.fromiter(map(_word, words), np.uint64, len(words))
    total = np.zeros(max(0, len(words) - n + 1), np.uint64)
    for i in range(n if len(total) else 0):
        total = total * FACTOR + hashed[i : i + len(total)]
    return total


def _whole(words: list[str]) -> Hashes:
    """The hash of a whole text, shape (1,); of an empty one, shape (0,)."""
    return np.array([_digest(" ".join(words))] if words else [], np.uint64)


@lru_cache(1 << 18)
def _word(word: str) -> int:
    return _digest(word)


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
