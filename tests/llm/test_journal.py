"""The journal: what is written is found again, whatever happened to the file in between."""

import errno
import json
import os
import resource
import signal
import threading
from pathlib import Path

import pytest

from medembed.errors import InputError
from medembed.llm.journal import Journal
from medembed.llm.outcomes import Failure, Reply
from medembed.llm.request import Request

MODEL = "org/llm@abc"


def request(n: int) -> Request:
    return Request(f"note-{n}", "v1@0", [{"role": "user", "content": f"note {n}"}], {}, {"seed": 1})


def test_a_record_says_all_about_its_request(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(append=path) as journal:
        journal.append(request(1), MODEL, Reply('{"pairs": []}', "stop", {"total_tokens": 9}, 0.5))
        journal.append(request(2), MODEL, Failure("422 validation", permanent=True))
    records = [json.loads(line) for line in path.open()]
    ended = {"model": MODEL, "prompt_version": "v1@0"}
    assert records == [
        {"key": request(1).key(MODEL), "note_id": "note-1", **ended, "status": "ok", "reply": '{"pairs": []}'}
        | {"finish_reason": "stop", "usage": {"total_tokens": 9}, "latency": 0.5},
        {"key": request(2).key(MODEL), "note_id": "note-2", **ended, "status": "failed"}
        | {"permanent": True, "error": "422 validation"},
    ]


def test_answers_and_permanent_failures_are_kept_and_passing_ones_asked_again(tmp_path):
    with Journal(append=tmp_path / "journal.jsonl") as journal:
        journal.append(request(1), MODEL, Reply("yes", "stop"))
        journal.append(request(2), MODEL, Failure("422", permanent=True))
        journal.append(request(3), MODEL, Failure("500"))
    with Journal(append=tmp_path / "journal.jsonl") as journal:
        assert [request(n).key(MODEL) in journal for n in (1, 2, 3, 4)] == [True, True, False, False]
        assert [journal.outcome(request(n).key(MODEL)) for n in (3, 4)] == [None, None]
        assert request(1).key("org/other") not in journal
        journal.append(request(3), MODEL, Reply("at last", "stop"))
        journal.flush()
        assert journal.outcome(request(3).key(MODEL)) == Reply("at last", "stop")
        assert journal.outcome(request(2).key(MODEL)) == Failure("422", permanent=True)


def test_what_fails_in_passing_in_a_second_run_too_has_ended_but_is_asked_again_by_a_third(tmp_path):
    key = request(1).key(MODEL)
    for ended in (None, Failure("500"), Failure("500")):
        with Journal(append=tmp_path / "journal.jsonl") as journal:
            assert key not in journal
            journal.append(request(1), MODEL, Failure("500"))
            journal.flush()
            assert journal.outcome(key) == ended


def test_several_journals_are_read_as_one_and_only_the_own_one_is_written_to(tmp_path):
    for n, name in enumerate(("journal.jsonl", "journal-0001.jsonl", "journal-0002.jsonl")):
        with Journal(append=tmp_path / name) as journal:
            journal.append(request(n), MODEL, Reply(name, "stop"))
    with Journal.of(tmp_path, "journal-0003.jsonl") as journal:
        assert all(request(n).key(MODEL) in journal for n in range(3))
        journal.append(request(3), MODEL, Reply("mine", "stop"))
    with Journal.of(tmp_path) as journal:
        assert [journal.outcome(request(n).key(MODEL)).content for n in (1, 3)] == ["journal-0001.jsonl", "mine"]
    assert [len(path.read_text().splitlines()) for path in sorted(tmp_path.iterdir())] == [1, 1, 1, 1]


def test_records_that_come_while_the_disk_is_busy_are_synced_together_and_count_only_then(tmp_path, monkeypatch):
    syncs, busy, synced = [], threading.Event(), os.fsync
    monkeypatch.setattr("os.fsync", lambda file: (busy.wait(5), synced(file), syncs.append(file)))
    with Journal(append=tmp_path / "journal.jsonl") as journal:
        for n in range(500):
            journal.append(request(n), MODEL, Reply("yes", "stop"))
        assert request(0).key(MODEL) not in journal
        busy.set()
        journal.flush()
        assert all(request(n).key(MODEL) in journal for n in range(500))
    assert len(syncs) < 10


def test_a_write_that_breaks_off_is_told_and_leaves_what_counted_whole(tmp_path):
    path = tmp_path / "journal.jsonl"
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(OSError, match=str(path)), Journal(append=path) as journal:
            journal.append(request(1), MODEL, Reply("yes", "stop"))
            journal.flush()
            durable = path.read_bytes()
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(durable) + 50, hard))
            journal.append(request(2), MODEL, Reply("no", "stop"))
            journal.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == durable and request(2).key(MODEL) not in journal


def test_what_could_not_be_synced_does_not_count_and_closing_tells_it(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"), Journal(append=tmp_path / "journal.jsonl") as journal:
        journal.append(request(1), MODEL, Reply("no", "stop"))
    assert (tmp_path / "journal.jsonl").read_bytes() == b"" and request(1).key(MODEL) not in journal


def test_after_a_broken_write_nothing_more_is_written_even_if_the_disk_recovers(tmp_path, monkeypatch):
    path, synced, full = tmp_path / "journal.jsonl", os.fsync, threading.Event()
    record = {"key": "k", "model": MODEL, "status": "ok", "reply": "no"}

    def sync(file):
        if full.is_set():
            full.clear()
            raise OSError(errno.ENOSPC, "No space left on device")
        synced(file)

    monkeypatch.setattr("os.fsync", sync)
    with pytest.raises(OSError, match="No space"), Journal(append=path) as journal:
        journal.append(request(1), MODEL, Reply("yes", "stop"))
        journal.flush()
        durable = path.read_bytes()
        full.set()
        journal._writer._records.put((record, b"x\n"))  # two that were handed over before the error could be told
        journal._writer._records.join()
        journal._writer._records.put((record, b"y\n"))
        journal.flush()
    assert path.read_bytes() == durable


def test_the_last_answer_wins_and_a_later_failure_does_not_undo_it(tmp_path):
    with Journal(append=tmp_path / "journal.jsonl") as journal:
        for outcome in (Reply("one", "stop"), Reply("two", "stop"), Failure("500")):
            journal.append(request(1), MODEL, outcome)
    with Journal(append=tmp_path / "journal.jsonl") as journal:
        assert journal.outcome(request(1).key(MODEL)) == Reply("two", "stop")


@pytest.mark.parametrize("torn", [b'{"key": "abc', b"{", b'{"key": "1", "status": "ok"}', b"\xff\xfe"])
def test_a_torn_last_record_is_cut_off_and_the_next_one_stands_whole(tmp_path, torn, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "journal.jsonl"
    with Journal(append=path) as journal:
        journal.append(request(1), MODEL, Reply("yes", "stop"))
    with path.open("ab") as file:
        file.write(torn)
    with Journal(append=path) as journal:
        journal.append(request(2), MODEL, Reply("too", "stop"))
    assert [json.loads(line)["note_id"] for line in path.open()] == ["note-1", "note-2"]
    assert caplog.text.count("was torn while it was written") == 1


def test_a_last_record_without_its_line_end_is_whole(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(append=path) as journal:
        journal.append(request(1), MODEL, Reply("one", "stop"))
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    with Journal(path) as journal:
        assert request(1).key(MODEL) in journal
    with Journal(append=path) as journal:
        journal.append(request(2), MODEL, Reply("two", "stop"))
    with Journal(append=path) as journal:
        assert [journal.outcome(request(n).key(MODEL)).content for n in (1, 2)] == ["one", "two"]


def test_a_damaged_line_costs_its_own_answer_and_no_other(tmp_path, caplog):
    path = tmp_path / "journal.jsonl"
    with Journal(append=path) as journal:
        journal.append(request(1), MODEL, Reply("yes", "stop"))
    damaged = [
        b"\x00\x01\n",
        b"null\n",
        b"[]\n",
        b'{"key": 1}\n',
        b'{"key": "1", "model": "m", "status": "ok", "reply": 1}\n',
    ]
    path.write_bytes(b"".join(damaged) + path.read_bytes())
    with Journal(append=path) as journal:
        assert journal.outcome(request(1).key(MODEL)) == Reply("yes", "stop")
    assert len(caplog.records) == len(damaged)


def test_a_recorded_journal_is_never_changed(tmp_path, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "recorded.jsonl"
    path.write_bytes(b'{"torn')
    with Journal(path):
        pass
    assert path.read_bytes() == b'{"torn'
    assert "is not whole, or is still being written" in caplog.text


def test_a_journal_that_cannot_be_opened_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        Journal(append=Path(tmp_path))
    with pytest.raises(InputError, match="cannot be read"):
        Journal(tmp_path / "none.jsonl")
