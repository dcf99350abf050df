"""Names → numbers, for millions of names: what a run must remember of each note, passage and journal record, and no more.

A table of open addressing over two flat arrays: 16 bytes a slot, of which one half to one quarter are in use, where a dict of strings
takes some 200 bytes an entry. A name is known by 64 bits of its hash: the chance that among 10 million two are taken for one is 3 in a
million.
"""

import hashlib
from array import array

_EMPTY = 0


class Index:
    """A mapping from names to numbers of 0 to 2⁶⁴ − 2 that only grows."""

    def __init__(self) -> None:
        self._used = 0
        self._digests, self._numbers = _slots(1 << 10)

    def __len__(self) -> int:
        return self._used

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def get(self, name: str) -> int | None:
        number = self._numbers[self._slot(_digest(name))]
        return None if number == _EMPTY else number - 1

    def put(self, name: str, number: int = 0) -> None:
        if 2 * self._used >= len(self._digests):
            self._grow()
        self._set(_digest(name), number + 1)

    def add(self, name: str) -> bool:
        """Remember a name; whether it is new."""
        known = len(self)
        self.put(name)
        return len(self) > known

    def _set(self, digest: int, stored: int) -> None:
        slot = self._slot(digest)
        self._used += self._numbers[slot] == _EMPTY
        self._digests[slot], self._numbers[slot] = digest, stored

    def _slot(self, digest: int) -> int:
        """Where the digest stands, or the empty slot where it would."""
        mask = len(self._digests) - 1
        slot = digest & mask
        while self._numbers[slot] != _EMPTY and self._digests[slot] != digest:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        old = zip(self._digests, self._numbers, strict=True)  # holds the old arrays
        self._digests, self._numbers = _slots(2 * len(self._digests))
        self._used = 0
        for digest, stored in old:
            if stored != _EMPTY:
                self._set(digest, stored)


def _slots(number: int) -> "tuple[array[int], array[int]]":
    return array("Q", bytes(8 * number)), array("Q", bytes(8 * number))


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest())
