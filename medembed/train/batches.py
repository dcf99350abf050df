"""Which rows are learned from together: global batches, cut into one slice a process, in which no row's answer is another's negative.

Each text of a batch is a candidate for every query of it. So the query and the positive of a row stand nowhere else in its batch;
two rows may share a negative, which does no harm, and without which a small corpus would leave most rows out. The rule holds over
all processes at once: N processes with B / N rows each see what one process with B rows sees.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import BatchSampler

Ids = NDArray[np.int64]

OPEN = 32  # batches that may stand open at once
PASSES = 8


class GlobalBatches(BatchSampler):  # type: ignore[misc]
    """Yields, for each global batch, its slices in the order of the processes: accelerate deals them out in turn.

    An epoch's batches depend on `seed`, the epoch and the rows alone, so that a resumed run goes on with the same ones.
    A row stands in an epoch at most once; rows are left out only where no further batch can be filled.
    """

    def __init__(self, texts: Ids, batch_size: int, processes: int, seed: int) -> None:
        """`texts`: (rows, 2 + negatives), equal numbers for equal texts. `batch_size`: global, a multiple of `processes`."""
        super().__init__(range(len(texts)), batch_size // processes, drop_last=True)
        self.epoch = 0
        self._texts, self._seed, self._processes = _without_harmless(texts), seed, processes
        self._first = pack(self._order(0), self._texts, batch_size)  # (steps of an epoch, global batch)

    @property
    def steps(self) -> int:
        """Global batches in an epoch."""
        return len(self._first)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def rows_of(self, first: int, last: int) -> list[int]:
        """The rows of this epoch's batches from `first` to before `last`."""
        return self._epoch()[first:last].ravel().tolist()

    def __len__(self) -> int:
        return self.steps * self._processes

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._epoch():
            yield from batch.reshape(self._processes, self.batch_size).tolist()

    def _epoch(self) -> Ids:
        """This epoch's batches: as many as the first epoch's; if its shuffle packs worse, the first epoch's in another order."""
        if self.epoch == 0:
            return self._first
        batches = pack(self._order(self.epoch), self._texts, self._first.shape[1])
        if len(batches) < self.steps:
            batches = self._random(self.epoch).permutation(self._first)
        return batches[: self.steps]

    def _order(self, epoch: int) -> Ids:
        return self._random(epoch).permutation(len(self._texts))

    def _random(self, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, epoch])


def pack(rows: Ids, texts: Ids, size: int) -> Ids:
    """Batches of `size` rows by the rule above, as many as a greedy search finds: (batches, size). O(rows × texts of a row).

    `texts`: (rows, 2 + negatives), -1 for a text that can break no rule. Rows that found no place, or one in a batch that was not
    filled, are tried again, a few times at most.
    """
    full: list[list[int]] = []
    for _ in range(PASSES):
        filled, left = _first_fit(rows, texts, size)
        full += filled
        if not filled or len(left) < size:
            break
        rows = np.array(left, dtype=np.int64)
    return np.array(full, dtype=np.int64).reshape(-1, size)


@dataclass
class _Batch:
    """A batch that is being filled: its rows, their queries and positives, and all their texts."""

    rows: list[int] = field(default_factory=list)
    own: set[int] = field(default_factory=set)
    texts: set[int] = field(default_factory=set)

    def takes(self, own: list[int], negatives: list[int]) -> bool:
        return self.texts.isdisjoint(own) and self.own.isdisjoint(negatives)

    def add(self, row: int, own: list[int], negatives: list[int]) -> None:
        self.rows.append(row)
        self.own.update(own)
        self.texts.update(own, negatives)


def _first_fit(rows: Ids, texts: Ids, size: int) -> tuple[list[list[int]], list[int]]:
    """Put each row into the first open batch that takes it: the filled batches, and the rows left over."""
    filled: list[list[int]] = []
    filling: list[_Batch] = []  # the oldest first
    left: list[int] = []
    for chunk in np.array_split(rows, len(rows) // 65536 + 1):  # bounds the Python objects that live at once
        for row, row_texts in zip(chunk.tolist(), texts[chunk].tolist(), strict=True):
            own, negatives = [t for t in row_texts[:2] if t >= 0], [t for t in row_texts[2:] if t >= 0]
            batch = next((batch for batch in filling if batch.takes(own, negatives)), None)
            if batch is None:
                if len(filling) == OPEN:
                    left.append(row)
                    continue
                batch = _Batch()
                filling.append(batch)
            batch.add(row, own, negatives)
            if len(batch.rows) == size:
                filling.remove(batch)
                filled.append(batch.rows)
    return filled, left + [row for batch in filling for row in batch.rows]


def _without_harmless(texts: Ids) -> Ids:
    """`texts` with -1 for each text that can break no rule: it stands once, or is no row's query or positive."""
    if texts.size == 0:
        return texts
    harmful = np.bincount(texts.ravel()) > 1
    harmful &= np.isin(np.arange(len(harmful)), texts[:, :2])
    return np.where(harmful[texts], texts, -1)
