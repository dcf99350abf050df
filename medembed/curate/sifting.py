"""One filter over all rows: tables in; the tables of what is left, the rejects, and an account of it out.

Each step has a folder of its own, with `done.json` written last: a killed stage goes on after the last step that has one. A table
that a filter leaves as it was is not written again. In memory are ids, never texts.
"""

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from medembed import tables
from medembed.curate.sieve import Row, Same, Sieve, Stored, keep
from medembed.rows import CORPUS, PAIRS, Reject, as_json, content_id, passage_input, stands_in
from medembed.run import by_frequency, read_json, write_json

DONE = "done.json"
SHARED = pa.schema([CORPUS.field("passage_id"), CORPUS.field("note_id")])  # what `Stored.shared` gives
Take = Callable[[str, Row], None]  # reject a row for a reason


@dataclass
class Fates:
    """What became of the passages that did not stay as they were, by id."""

    gone: dict[str, str] = field(default_factory=dict)  # why
    moved: dict[str, str] = field(default_factory=dict)  # the id of the passage that now stands for it
    merged: dict[str, str] = field(default_factory=dict)  # why it goes, of those for which an earlier one stands


def to_do(folder: Path) -> bool:
    """Whether the step in `folder` has still to be done; what it left unfinished is removed."""
    if (folder / DONE).exists():
        return False
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return True


def sift(make: Callable[[Stored], Sieve], stored: Stored, folder: Path) -> None:
    """Run the filter that `make` makes over what is `stored`, into `folder`; nothing, when that has been done."""
    if not to_do(folder):
        return
    sieve = make(stored)
    counts = {"passages": Counter[str](), "pairs": Counter[str]()}
    with tables.rejecting(folder / "rejects.parquet") as (reject, _):

        def take(kind: str, reason: str, row: Row) -> None:
            counts[kind][reason] += 1
            reject(Reject(reason, f"note {row['note_id']}, passage {row['passage_id']}", as_json(row)))

        fates = Fates()
        if sieve.passage is not keep:
            fates = _passages(sieve, stored, folder / "passages.parquet", partial(take, "passages"))
            if fates.merged:
                _share(stored, fates, folder / "shared.parquet")
        if sieve.pair is not keep or fates.gone or fates.moved:
            _pairs(sieve, stored, fates, folder, partial(take, "pairs"))
    reasons = by_frequency(counts["passages"] + counts["pairs"])
    removed = {f"{kind} removed": sum(those.values()) for kind, those in counts.items()}
    write_json(folder / DONE, {**removed, "reasons": reasons, "facts": sieve.facts()})


def left(folders: list[Path], cache: Path) -> Stored:
    """What the steps in `folders`, all done, have left: the last table of each kind."""
    pairs, passages, shared = (
        next((path for f in reversed(folders) if (path := f / f"{name}.parquet").exists()), None)
        for name in ("pairs", "passages", "shared")
    )
    assert pairs and passages, "what was gathered has both"
    return Stored(pairs, passages, cache, folders[0].parent, shared)


def account(folder: Path) -> dict[str, Any]:
    """What a step did: rows removed, reasons, and what the filter itself tells."""
    done: dict[str, Any] = read_json(folder / DONE)
    return done


def rejects_of(folder: Path) -> Iterator[Reject]:
    return (Reject(**row) for row in tables.rows(folder / "rejects.parquet"))


def _passages(sieve: Sieve, stored: Stored, path: Path, take: Take) -> Fates:
    """Write the passages that stay. One with another content has another id; the pairs of any that changed follow it."""
    fates = Fates()
    kept: set[str] = set()
    with tables.writing(path, CORPUS) as add:
        for row in stored.passages():
            old, said = row["passage_id"], sieve.passage(dict(row))
            if isinstance(said, Same):
                fates.moved[old], fates.merged[old] = said.passage_id, said.reason
                take(said.reason, row)
                continue
            if isinstance(said, str):
                fates.gone[old] = said
                take(said, row)
                continue
            if (said["title"], said["text"]) != (row["title"], row["text"]):
                said["passage_id"] = content_id(said["title"], said["text"])
            if said != row:
                fates.moved[old] = said["passage_id"]
            if said["passage_id"] in kept:  # changed, one of the two says what the other says
                fates.moved[old] = said["passage_id"]
                take("duplicate passage", row)
            else:
                kept.add(said["passage_id"])
                add(said)
    return fates


def _share(stored: Stored, fates: Fates, path: Path) -> None:
    """Write of which other notes the passages are now: those for which another stands have brought theirs."""
    merged = (row for row in tables.rows(stored.passages_path, SHARED.names) if row["passage_id"] in fates.merged)
    with tables.writing(path, SHARED) as add:
        for row in chain(stored.shared(), merged):
            add(row | {"passage_id": fates.moved.get(row["passage_id"], row["passage_id"])})


def _pairs(sieve: Sieve, stored: Stored, fates: Fates, folder: Path, take: Take) -> None:
    """Write the pairs that stay, each with the passage that stands for its own."""
    passages = folder / "passages.parquet"
    with (
        tables.writing(folder / "pairs.parquet", PAIRS) as add,
        closing(_Texts(folder / "texts.sqlite", passages, set(fates.moved.values()))) as texts,
    ):
        for row in stored.pairs():
            old = row["passage_id"]
            if reason := fates.gone.get(old):
                take(f"passage: {reason}", row)
                continue
            asked = row | texts.of(fates.moved[old]) if old in fates.moved else dict(row)
            if old in fates.merged and asked["evidence"] and not stands_in(asked["evidence"], asked["positive"]):
                take(f"passage: {fates.merged[old]}", row)
                continue
            said = sieve.pair(asked)
            if isinstance(said, str):
                take(said, row)
            else:
                add(said)
    (folder / "texts.sqlite").unlink(missing_ok=True)


class _Texts:
    """What pairs take over from the passages with the given ids: on disk, for they may be all there are."""

    def __init__(self, path: Path, passages: Path, ids: set[str]) -> None:
        self._file = sqlite3.connect(path)
        self._file.execute("PRAGMA journal_mode = OFF")  # a scratch file: after a crash it is made again
        self._file.execute("PRAGMA synchronous = OFF")
        self._file.execute(
            "CREATE TABLE texts (passage_id TEXT PRIMARY KEY, note_id TEXT, positive TEXT) WITHOUT ROWID"
        )
        if ids:
            self._file.executemany("INSERT INTO texts VALUES (?, ?, ?)", self._rows(passages, ids))

    @staticmethod
    def _rows(passages: Path, ids: set[str]) -> Iterator[tuple[str, str, str]]:
        for row in tables.rows(passages):
            if row["passage_id"] in ids:
                yield row["passage_id"], row["note_id"], passage_input(row["title"], row["text"])

    def of(self, passage_id: str) -> Row:
        found = self._file.execute("SELECT note_id, positive FROM texts WHERE passage_id = ?", [passage_id]).fetchone()
        return {"passage_id": passage_id, "note_id": found[0], "positive": found[1]}

    def close(self) -> None:
        self._file.close()
