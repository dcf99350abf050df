"""The journal of replies: one JSON record a line for every request that ended, so that no answer is ever paid for twice.

A record is on the disk before it counts. A torn last line (the process was killed while writing) is dropped and asked again; where a key
has several records the last answer wins. Of each reply only its place in the file is held in memory.
"""

import json
import logging
import os
from pathlib import Path
from typing import Any, Self

from medembed.errors import InputError
from medembed.generate.outcomes import Failure, Reply
from medembed.generate.prompt import Request

log = logging.getLogger(__name__)


class Journal:
    """The records in one file, by key. Opened to be written it is mended first; read-only it is left as it is.

    A permanent failure is as final as an answer. One in passing is asked again in the next run; if that fails too, with all its
    attempts, it counts as ended for that run: else a single request that no server can answer would hold up all the others for ever.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.models: set[str] = set()
        self._answers: dict[str, int] = {}  # key → where its record begins in the file
        self._failures: dict[str, Failure] = {}
        self._unended = False
        try:
            self._file = path.open("rb" if read_only else "a+b")
        except OSError as error:
            raise InputError.of(f"cannot be read: {error.strerror}", str(path)) from error
        whole = self._read()
        if not read_only:
            self._file.truncate(whole)
            self._file.write(b"\n" if self._unended else b"")
        self._failed_before = set(self._failures)
        self._failures = {key: failure for key, failure in self._failures.items() if failure.permanent}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, key: str) -> bool:
        """Whether this request has ended, one way or the other."""
        failure = self._failures.get(key)
        return key in self._answers or (failure is not None and (failure.permanent or key in self._failed_before))

    def outcome(self, key: str) -> Reply | Failure:
        """How a request ended that has."""
        if key not in self._answers:
            return self._failures[key]
        self._file.seek(self._answers[key])
        record = json.loads(self._file.readline())
        return Reply(record["reply"], str(record.get("finish_reason")))

    def append(self, request: Request, model: str, outcome: Reply | Failure) -> None:
        """Write how a request ended, durably."""
        record: dict[str, Any] = {"key": request.key(model), "note_id": request.note_id, "model": model}
        record["prompt_version"] = request.prompt_version
        if isinstance(outcome, Failure):
            record |= {"status": "failed", "permanent": outcome.permanent, "error": outcome.reason}
        else:
            record |= {"status": "ok", "reply": outcome.content, "finish_reason": outcome.finish_reason}
            record |= {"usage": outcome.usage, "latency": outcome.latency}
        place = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._know(record, place)

    def _read(self) -> int:
        """Read all records; the number of bytes up to the end of the last whole line."""
        place = 0
        self._file.seek(0)
        for number, line in enumerate(self._file, 1):
            try:
                self._know(json.loads(line), place)
            except (ValueError, LookupError, TypeError, RecursionError):
                if not line.endswith(b"\n"):
                    log.warning("%s: its last record is torn; that request will be asked again", self.path)
                    break
                log.warning("%s:%d: is no record of a reply and is passed over", self.path, number)
            place += len(line)
            self._unended = not line.endswith(b"\n")  # the last record is whole but for its line's end
        return place

    def _know(self, record: dict[str, Any], place: int) -> None:
        key, model = str(record["key"]), str(record["model"])
        if record["status"] != "ok":
            self._failures[key] = Failure(str(record["error"]), permanent=bool(record["permanent"]))
        elif isinstance(record["reply"], str):
            self._answers[key] = place
        else:
            raise TypeError
        self.models.add(model)
