"""The journal of replies: one JSON record a line for every request that ended, so that no answer is ever paid for twice.

Records gather while one write and fsync runs in a thread; a record counts only when it is on the disk. A torn last line (the process was
killed while writing) is dropped and asked again; where a key has several records the last answer wins. Of each only its place is held.
"""

import json
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Self

from medembed.errors import InputError
from medembed.llm.index import Index
from medembed.llm.outcomes import Failure, Reply
from medembed.llm.request import Request

log = logging.getLogger(__name__)

_Record = dict[str, Any]

_WAITING = 4096  # records that may wait for the disk; then asking waits too
_OFFSET_BITS = 44  # of a place: files of up to 16 TiB, and a million of them


@dataclass
class _Failed:
    last: Failure
    times: int = 1  # once a run


class Journal:
    """The records of the files at `paths`, read, and of the one at `append`, which is mended and written to; by key.

    A permanent failure is as final as an answer. One in passing is asked again in the next run; if that fails too, with all its
    attempts, it counts as ended until it is asked again: else a request that no server can answer would hold up all others for ever.
    """

    def __init__(self, *paths: Path, append: Path | None = None) -> None:
        self.models: set[str] = set()
        self._answers = Index()  # key → which file, and where in it the record begins
        self._failures: dict[str, _Failed] = {}
        self._lock = threading.Lock()
        self._files: list[BinaryIO] = []
        self._writer: _Writer | None = None
        for path in paths:
            with self._told(path):
                self._read(path)
        if append:
            with self._told(append):
                append.touch()
                self._writer = _Writer(append, *self._read(append, mended=True), partial(self._know, file=len(paths)))

    @classmethod
    def of(cls, folder: Path, append: str | None = None) -> "Journal":
        """All journals of a run folder (`journal.jsonl`, `journal-*.jsonl`), the one named `append` to be written to."""
        paths = sorted({*folder.glob("journal.jsonl"), *folder.glob("journal-*.jsonl")})
        mine = folder / append if append else None
        return cls(*(path for path in paths if path != mine), append=mine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write what waits.

        Raises:
            OSError: it could not be written; not in the place of another error.
        """
        try:
            if self._writer:
                self._writer.close()
        except OSError:
            if kind is None:
                raise
        finally:
            self._close()

    def __len__(self) -> int:
        return len(self._answers)

    def __contains__(self, key: str) -> bool:
        """Whether this request need not be asked: it has an answer, or never will."""
        with self._lock:
            failed = self._failures.get(key)
            return key in self._answers or bool(failed and failed.last.permanent)

    def outcome(self, key: str) -> Reply | Failure | None:
        """How a request ended; None, when it has to be asked, for the first time or again."""
        with self._lock:
            place, failed = self._answers.get(key), self._failures.get(key)
        if place is None:
            return failed.last if failed and (failed.last.permanent or failed.times > 1) else None
        record = self._record(place)
        usage, latency = record.get("usage"), record.get("latency")
        return Reply(
            record["reply"],
            str(record.get("finish_reason")),
            {name: n for name, n in usage.items() if type(n) is int} if isinstance(usage, dict) else {},
            float(latency) if isinstance(latency, int | float) else 0.0,
        )

    def append(self, request: Request, model: str, outcome: Reply | Failure) -> None:
        """Hand over how a request ended, to be written soon; it counts when it is on the disk.

        Raises:
            OSError: this or an earlier record could not be written. What counted is whole.
        """
        assert self._writer, "a journal that is only read"
        record: _Record = {"key": request.key(model), "note_id": request.note_id, "model": model}
        record["prompt_version"] = request.prompt_version
        if isinstance(outcome, Failure):
            record |= {"status": "failed", "permanent": outcome.permanent, "error": outcome.reason}
        else:
            record |= {"status": "ok", "reply": outcome.content, "finish_reason": outcome.finish_reason}
            record |= {"usage": outcome.usage, "latency": outcome.latency}
            record |= {"max_tokens": outcome.max_tokens} if outcome.max_tokens else {}
        self._writer.append(record)

    def flush(self) -> None:
        """Wait until all that was appended counts.

        Raises:
            OSError: it could not be written.
        """
        if self._writer:
            self._writer.flush()

    def _read(self, path: Path, *, mended: bool = False) -> tuple[int, bool]:
        """Read all records of a file; where its last whole line ends, and whether that lacks but its line's end."""
        file = path.open("rb")
        self._files.append(file)
        place, unended = 0, False
        for number, line in enumerate(file, 1):
            try:
                self._know(json.loads(line), place, len(self._files) - 1)
            except (ValueError, LookupError, TypeError, RecursionError):
                if not line.endswith(b"\n"):
                    torn = "was torn while it was written; it is cut off, and its request asked again"
                    unread = "is not whole, or is still being written, and does not count"
                    log.info("%s: its last record %s", path, torn if mended else unread)
                    break
                log.warning("%s:%d: is no record of a reply and is passed over", path, number)
            place += len(line)
            unended = not line.endswith(b"\n")
        return place, unended

    def _know(self, record: _Record, place: int, file: int) -> None:
        key, model = str(record["key"]), str(record["model"])
        with self._lock:
            if record["status"] != "ok":
                failure = Failure(str(record["error"]), permanent=bool(record["permanent"]))
                before = self._failures.get(key)
                self._failures[key] = _Failed(failure, before.times + 1 if before else 1)
            elif isinstance(record["reply"], str):
                self._answers.put(key, file << _OFFSET_BITS | place)
            else:
                raise TypeError
            self.models.add(model)

    def _record(self, place: int) -> Any:
        file = self._files[place >> _OFFSET_BITS]
        file.seek(place & (1 << _OFFSET_BITS) - 1)
        return json.loads(file.readline())

    @contextmanager
    def _told(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._close()
            raise InputError.of(f"cannot be read: {error.strerror}", str(path)) from error

    def _close(self) -> None:
        for file in self._files:
            file.close()


class _Writer:
    """A file that a thread appends records to, as many at once as came in while it wrote the last ones.

    After an error nothing more is written: the file ends with its last record that counted, and whoever appends or waits is told.
    """

    def __init__(self, path: Path, end: int, unended: bool, known: Callable[[_Record, int], None]) -> None:
        """Mend a file that has `end` good bytes, and begin to write; `known(record, place)` is called for each that is durable."""
        self._file = path.open("r+b", buffering=0)
        self._file.truncate(end)
        self._file.seek(end)
        self._end = end + (self._file.write(b"\n") if unended else 0)
        self._known = known
        self._error: OSError | None = None
        self._records: queue.Queue[tuple[_Record, bytes] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def append(self, record: _Record) -> None:
        self._raise()
        self._records.put((record, json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"))

    def flush(self) -> None:
        self._records.join()
        self._raise()

    def close(self) -> None:
        self._records.put(None)
        self._thread.join()
        self._file.close()
        self._raise()

    def _raise(self) -> None:
        if self._error:
            raise self._error

    def _work(self) -> None:
        last = False
        while not last:
            group = [self._records.get()]
            while len(group) < _WAITING and not self._records.empty():
                group.append(self._records.get())
            last = group[-1] is None
            if not self._error:
                self._write([record for record in group if record])
            for _ in group:
                self._records.task_done()

    def _write(self, records: list[tuple[_Record, bytes]]) -> None:
        try:
            left = memoryview(b"".join(line for _, line in records))
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            error.filename = error.filename or self._file.name
            self._error = error
            with suppress(OSError):
                self._file.truncate(self._end)
            return
        for record, line in records:
            self._known(record, self._end)
            self._end += len(line)
