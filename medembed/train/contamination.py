"""Which evaluation tasks share texts with the training rows? The rows in, once, as hashes; then each task's texts stream past them.

Texts are compared whole and folded (case, punctuation and white space aside): what `decontaminate` looks for more closely, when the
dataset is made, is made sure of here for any dataset. 8 bytes for each text of the rows are held in memory, and of a task one block.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray

from medembed import tables
from medembed.errors import InputError
from medembed.rows import content_id, fold
from medembed.tasks import task_name
from medembed.tasks.texts import texts_of

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Shared:
    """Of a task: how many training rows ask one of its queries, or hold one of its passages; or why that cannot be told."""

    task: str
    name: str
    queries: int = 0
    passages: int = 0
    why_not: str = ""

    @property
    def figures(self) -> Any:
        return self.why_not or {"queries": self.queries, "passages": self.passages}


def shared_with(tasks: list[str], texts: Dataset) -> Iterator[Shared]:
    """What each task shares with `texts`: the columns `query`, `positive` and negatives of the training rows."""
    table = texts.data.table
    hashes = {name: _hashes_of_column(table[name]) for name in table.column_names}
    queries = hashes.pop("query")
    for task in tasks:
        try:
            theirs = texts_of(task)
        except InputError as error:
            yield Shared(task, task_name(task), why_not=error.faults[0].what)
            continue
        asked = _common(theirs.queries, [queries])
        held = _common(theirs.passages, list(hashes.values()))
        rows = np.logical_or.reduce([np.isin(column, held) for column in hashes.values()])
        yield Shared(task, theirs.name, int(np.isin(queries, asked).sum()), int(rows.sum()))


def _hashes_of_column(column: pa.ChunkedArray) -> Hashes:
    """The hash of each row's text, each distinct text folded once: (rows,)."""
    encoded = column.combine_chunks().dictionary_encode()
    hashes: Hashes = _hashes(encoded.dictionary.to_pylist())[np.asarray(encoded.indices)]
    return hashes


def _common(theirs: Iterable[str], ours: list[Hashes]) -> Hashes:
    """The hashes of their texts that are also among ours."""
    known = np.unique(np.concatenate(ours))
    found = [np.intersect1d(_hashes(block), known) for block in tables.blocks(theirs)]
    common: Hashes = np.unique(np.concatenate([np.empty(0, np.uint64), *found]))
    return common


def _hashes(texts: list[str]) -> Hashes:
    """64 bits of each folded text; 0 for one without a letter or digit, which is nobody's alone."""
    folded = (fold(text) for text in texts)
    return np.array([int(content_id(text), 16) if text else 0 for text in folded], np.uint64)
