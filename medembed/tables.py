"""Parquet, row by row: tables larger than memory are written and read in groups of rows. Equal rows give equal bytes."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from medembed.rows import REJECTS, Reject
from medembed.run import replacing

Row = dict[str, Any]
Item = TypeVar("Item")
GROUP = 4096  # rows held in memory


@contextmanager
def writing(path: Path, schema: pa.Schema) -> Iterator[Callable[[Row], None]]:
    """A function that adds one row to the table at `path`, which stands there, whole, after the block."""
    waiting: list[Row] = []
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as file:

        def flush() -> None:
            file.write_table(pa.Table.from_pylist(waiting, schema=schema))
            waiting.clear()

        def add(row: Row) -> None:
            waiting.append(row)
            if len(waiting) == GROUP:
                flush()

        yield add
        if waiting:
            flush()


def rows(path: Path, columns: list[str] | None = None) -> Iterator[Row]:
    """The rows of a table in their order, `GROUP` of them in memory at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(GROUP, columns=columns):
            yield from batch.to_pylist()


def blocks(items: Iterable[Item], size: int = GROUP) -> Iterator[list[Item]]:
    """The items in lists of `size`; the last one may be shorter."""
    rest = iter(items)
    while block := list(islice(rest, size)):
        yield block


@contextmanager
def rejecting(path: Path) -> Iterator[tuple[Callable[[Reject], None], Counter[str]]]:
    """A function that adds one reject to the table at `path`, and their numbers by reason."""
    counts: Counter[str] = Counter()
    with writing(path, REJECTS) as add:

        def reject(row: Reject) -> None:
            counts[row.reason] += 1
            add(row._asdict())

        yield reject, counts
