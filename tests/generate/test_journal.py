"""The journal: what is written is found again, whatever happened to the file in between."""

import json
from pathlib import Path

import pytest

from medembed.errors import InputError
from medembed.generate.journal import Journal
from medembed.generate.outcomes import Failure, Reply
from medembed.generate.prompt import Request

MODEL = "org/llm@abc"


def request(n: int) -> Request:
    return Request(f"note-{n}", "v1@0", [{"role": "user", "content": f"note {n}"}], {}, {"seed": 1})


def test_a_record_says_all_about_its_request(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
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
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append(request(1), MODEL, Reply("yes", "stop"))
        journal.append(request(2), MODEL, Failure("422", permanent=True))
        journal.append(request(3), MODEL, Failure("500"))
    with Journal(tmp_path / "journal.jsonl") as journal:
        assert [request(n).key(MODEL) in journal for n in (1, 2, 3, 4)] == [True, True, False, False]
        assert request(1).key("org/other") not in journal
        journal.append(request(3), MODEL, Reply("at last", "stop"))
        assert journal.outcome(request(3).key(MODEL)) == Reply("at last", "stop")
        assert journal.outcome(request(2).key(MODEL)) == Failure("422", permanent=True)


def test_what_fails_in_passing_in_a_second_run_too_has_ended_for_that_run_and_no_other(tmp_path):
    key = request(1).key(MODEL)
    for ended in (False, True, True):
        with Journal(tmp_path / "journal.jsonl") as journal:
            assert key not in journal
            journal.append(request(1), MODEL, Failure("500"))
            assert (key in journal) == ended
    assert journal.outcome(key) == Failure("500")


def test_the_last_answer_wins_and_a_later_failure_does_not_undo_it(tmp_path):
    with Journal(tmp_path / "journal.jsonl") as journal:
        for outcome in (Reply("one", "stop"), Reply("two", "stop"), Failure("500")):
            journal.append(request(1), MODEL, outcome)
    with Journal(tmp_path / "journal.jsonl") as journal:
        assert journal.outcome(request(1).key(MODEL)) == Reply("two", "stop")


@pytest.mark.parametrize("torn", [b'{"key": "abc', b"{", b'{"key": "1", "status": "ok"}', b"\xff\xfe"])
def test_a_torn_last_record_is_cut_off_and_the_next_one_stands_whole(tmp_path, torn):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(request(1), MODEL, Reply("yes", "stop"))
    with path.open("ab") as file:
        file.write(torn)
    with Journal(path) as journal:
        journal.append(request(2), MODEL, Reply("too", "stop"))
    assert [json.loads(line)["note_id"] for line in path.open()] == ["note-1", "note-2"]


def test_a_last_record_without_its_line_end_is_whole(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(request(1), MODEL, Reply("one", "stop"))
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    with Journal(path, read_only=True) as journal:
        assert request(1).key(MODEL) in journal
    with Journal(path) as journal:
        journal.append(request(2), MODEL, Reply("two", "stop"))
    with Journal(path) as journal:
        assert [journal.outcome(request(n).key(MODEL)).content for n in (1, 2)] == ["one", "two"]


def test_a_damaged_line_costs_its_own_answer_and_no_other(tmp_path, caplog):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(request(1), MODEL, Reply("yes", "stop"))
    damaged = [
        b"\x00\x01\n",
        b"null\n",
        b"[]\n",
        b'{"key": 1}\n',
        b'{"key": "1", "model": "m", "status": "ok", "reply": 1}\n',
    ]
    path.write_bytes(b"".join(damaged) + path.read_bytes())
    with Journal(path) as journal:
        assert journal.outcome(request(1).key(MODEL)) == Reply("yes", "stop")
    assert len(caplog.records) == len(damaged)


def test_a_recorded_journal_is_never_changed(tmp_path):
    path = tmp_path / "recorded.jsonl"
    path.write_bytes(b'{"torn')
    with Journal(path, read_only=True):
        pass
    assert path.read_bytes() == b'{"torn'


def test_a_journal_that_cannot_be_opened_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        Journal(Path(tmp_path))
