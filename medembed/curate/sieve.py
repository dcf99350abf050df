"""A filter made ready: what it says of each passage and of each pair. The stage runs one after the other over all rows.

A function of a row gives the row to keep, changed or as it was, or the reason to reject it. What has to be known of all rows first
(duplicates, ranks, texts of evaluation tasks) is gathered when the sieve is made.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medembed import tables

Row = dict[str, Any]
Check = Callable[[Row], Row | str]


def keep(row: Row) -> Row:
    return row


@dataclass(frozen=True)
class Stored:
    """The rows that the filters before have left, on disk; `cache` is a folder for what must not be made twice (embeddings)."""

    pairs_path: Path
    passages_path: Path
    cache: Path

    def pairs(self) -> Iterator[Row]:
        """Rows of `rows.PAIRS`, in their order; may be iterated again and again."""
        return tables.rows(self.pairs_path)

    def passages(self) -> Iterator[Row]:
        """Rows of `rows.CORPUS`."""
        return tables.rows(self.passages_path)


@dataclass(frozen=True)
class Sieve:
    """What one filter says. Passages come first; the pairs of a rejected passage go with it, and are not asked about."""

    pair: Check = keep
    passage: Check = keep
    facts: Callable[[], dict[str, Any]] = dict  # what the card tells of it, after all rows have gone through
