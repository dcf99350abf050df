"""A filter made ready: what it says of each passage and of each pair. The stage runs one after the other over all rows.

A function of a row gives the row to keep, changed or as it was, or the reason to reject it. What has to be known of all rows first
(duplicates, ranks, texts of evaluation tasks) is gathered when the sieve is made. The module `medembed.curate.<name of the filter>`
has `sieve(setting, stored) -> Sieve` and, if it reads more than the rows, `reads(setting)`: what that is, for the fingerprint.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from medembed import tables
from medembed.errors import InputError

Row = dict[str, Any]
Check = Callable[[Row], Row | str]


class Same(NamedTuple):
    """Of a passage that says what an earlier one says: it goes for this reason, and its pairs move to the earlier one."""

    reason: str
    passage_id: str


def keep(row: Row) -> Row:
    return row


@dataclass(frozen=True)
class Stored:
    """The rows that the filters before have left, on disk.

    `cache` is a folder for what any recipe may find again (embeddings); `scratch` one for what is gone when the stage is done.
    """

    pairs_path: Path
    passages_path: Path
    cache: Path
    scratch: Path
    shared_path: Path | None = None

    def pairs(self) -> Iterator[Row]:
        """Rows of `rows.PAIRS`, in their order; may be iterated again and again."""
        return tables.rows(self.pairs_path)

    def passages(self) -> Iterator[Row]:
        """Rows of `rows.CORPUS`."""
        return tables.rows(self.passages_path)

    def shared(self) -> Iterator[Row]:
        """`passage_id, note_id`: notes that a passage came from besides the one that its row names; some come twice."""
        return tables.rows(self.shared_path) if self.shared_path else iter(())


@dataclass(frozen=True)
class Sieve:
    """What one filter says. Passages come first; the pairs of a rejected passage go with it, and are not asked about."""

    pair: Check = keep
    passage: Callable[[Row], Row | str | Same] = keep
    facts: Callable[[], dict[str, Any]] = dict  # what the card tells of it, after all rows have gone through


def installed(package: str) -> str:
    """A package that not every recipe needs, with its version.

    Raises:
        InputError: it is not installed.
    """
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError as error:
        mend = "Install it: `pip install 'medembed[curate]'`."
        raise InputError.of(f"a filter needs the package {package}, which is not installed", "curate", mend) from error
