"""The stage from notes to pairs, with a real client against the loopback TGI."""

import asyncio
import errno
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from medembed.errors import InputError, MedEmbedError, RunError
from medembed.generate import ask
from medembed.generate.notes import read_notes
from medembed.llm.journal import Journal
from medembed.recipe import Notes, Pairs
from medembed.rows import CORPUS, PAIRS, content_id, passage_input, stands_in
from medembed.tokens import count
from tests.fixtures.tgi import TGI
from tests.generate.conftest import note
from tests.llm.asking import dies_after


def parquet(run: Any) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.path("generate").glob("*.parquet")}


def test_notes_become_pairs_each_with_the_passage_that_holds_its_evidence(make_recipe, generate):
    with TGI() as tgi:
        record, run = generate(make_recipe(6, endpoints=[tgi.url]))
    pairs, corpus = run.read("generate", "pairs"), run.read("generate", "corpus")
    assert (pairs.schema, corpus.schema) == (PAIRS, CORPUS)
    assert record.counts == {
        "notes": 6,
        "notes shown in part": 0,
        "replies": 6,
        "passages": 18,
        "pairs": 36,
        "pairs not given": 0,
    }
    assert record.rejects == {}
    assert record.facts["pairs_by_type"] == {"keyword": 12, "question": 12, "treatment": 12}
    assert record.facts["prompt"].startswith("You write search queries")  # for the card: no text of a note
    assert record.facts["tokens"]["in"] > 6 * 50 and record.facts["tokens"]["out"] > 36 * 5
    assert 0 < record.measured["latency"]["mean"] <= record.measured["latency"]["95th percentile"]
    passages = {row["passage_id"]: row for row in corpus.to_pylist()}
    for pair in pairs.to_pylist():
        passage = passages[pair["passage_id"]]
        assert passage["passage_id"] == content_id(passage["title"], passage["text"])
        assert pair["positive"] == passage_input(passage["title"], passage["text"])
        assert stands_in(pair["evidence"], pair["positive"])
        assert pair["note_id"] == passage["note_id"]
        assert pair["generator"] == record.facts["generator"] == f"{tgi.model}@{tgi.sha}"
        assert (pair["source"], pair["license"]) == ("notes.jsonl", "cc0-1.0")
    kinds = [pair["query_type"] for pair in pairs.to_pylist()[:6]]
    assert sorted(kinds) == ["keyword"] * 2 + ["question"] * 2 + ["treatment"] * 2


def test_a_passage_that_two_notes_have_is_told_of_both_for_each_may_know_names_in_it(make_recipe, generate):
    like = note(0)
    other = like | {"id": "MRN-0100", "text": like["text"].replace("30-year-old", "31-year-old")}
    with TGI() as tgi:
        record, run = generate(make_recipe([like, other], endpoints=[tgi.url]))
    rows = run.read("generate", "corpus").to_pylist()
    assert record.counts["passages"] == len(rows) == len({(row["passage_id"], row["note_id"]) for row in rows}) == 6
    assert len({row["passage_id"] for row in rows}) == 4


def test_the_users_own_ids_leave_neither_in_a_request_nor_in_a_table_or_the_journal(make_recipe, generate):
    with TGI() as tgi:
        _, run = generate(make_recipe(2, endpoints=[tgi.url]))
    left = [json.dumps(tgi.asked), (run.folder / "journal.jsonl").read_text()]
    left += [str(run.read("generate", name).to_pylist()) for name in ("pairs", "corpus")]
    assert not any("MRN" in text for text in left)


def test_the_output_follows_the_notes_whatever_the_order_of_the_answers(make_recipe, generate):
    slow_first = iter(range(100))
    with TGI() as one, TGI(faults=lambda text: "500" if next(slow_first) % 3 == 0 else "") as other:
        _, in_turn = generate(make_recipe(12, endpoints=[one.url], concurrency=1), "in turn")
        _, at_once = generate(make_recipe(12, endpoints=[other.url], concurrency=8), "at once")
    assert parquet(in_turn) == parquet(at_once)
    keys = [[json.loads(line)["key"] for line in (run.folder / "journal.jsonl").open()] for run in (in_turn, at_once)]
    assert keys[0] != keys[1] and sorted(keys[0]) == sorted(keys[1])


def test_a_recorded_journal_answers_everything_and_nobody_is_called(make_recipe, generate, tmp_path):
    with TGI() as tgi:
        _, live = generate(make_recipe(6, endpoints=[tgi.url]), "live")
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_bytes((live.folder / "journal.jsonl").read_bytes())
    recorded.chmod(0o444)
    _, run = generate(make_recipe(6, recorded=str(recorded)), "replayed")
    assert parquet(run) == parquet(live)
    assert not (run.folder / "journal.jsonl").exists()


def test_a_recorded_journal_that_lacks_answers_says_how_many_and_what_to_do(make_recipe, generate, tmp_path):
    with TGI() as tgi:
        _, live = generate(make_recipe(4, endpoints=[tgi.url]), "live")
    with pytest.raises(InputError, match=r"2 of 6 requests have no answer(.|\n)*--endpoint URL"):
        generate(make_recipe(6, recorded=str(live.folder / "journal.jsonl")), "replayed")
    with pytest.raises(InputError, match=r"4 of 4 requests have no answer"):
        generate(make_recipe(4, recorded=str(live.folder / "journal.jsonl"), temperature=0.1), "other settings")


def test_a_recorded_journal_of_two_models_is_refused(make_recipe, generate, tmp_path):
    with TGI() as one, TGI(model="loopback/other") as other:
        runs = [generate(make_recipe(2, endpoints=[tgi.url]), tgi.model)[1] for tgi in (one, other)]
    both = tmp_path / "both.jsonl"
    both.write_bytes(b"".join((run.folder / "journal.jsonl").read_bytes() for run in runs))
    with pytest.raises(InputError, match="replies of 2 models"):
        generate(make_recipe(2, recorded=str(both)), "replayed")


def test_done_again_nothing_is_asked_and_a_changed_setting_keeps_the_old_answers(make_recipe, generate):
    with TGI() as tgi:
        generate(make_recipe(3, endpoints=[tgi.url]))
        generate(make_recipe(3, endpoints=[tgi.url]))
        assert len(tgi.asked) == 3
        generate(make_recipe(3, endpoints=[tgi.url], temperature=0.2))
        assert len(tgi.asked) == 6
        _, run = generate(make_recipe(3, endpoints=[tgi.url]))
        assert len(tgi.asked) == 6
    assert len((run.folder / "journal.jsonl").read_text().splitlines()) == 6


def test_what_the_llm_failed_to_give_is_rejected_with_a_reason(make_recipe, generate):
    gone_wrong = dict(enumerate(("length", "garbage", "wrong schema", "422", "null")))

    def fault(text: str) -> str:
        return next((kind for n, kind in gone_wrong.items() if f"Clinic visit {n}\n" in text), "")

    with TGI(faults=fault) as tgi:
        record, run = generate(make_recipe(6, endpoints=[tgi.url], concurrency=1))
    assert record.rejects == {
        "not JSON": 2,
        "no answer: 422 validation": 1,
        "truncated": 1,
        "wrong schema": 1,
    }
    assert record.counts["pairs"] == 6 and record.counts["pairs not given"] == 30
    refused = [body for body in tgi.asked if fault(body["messages"][-1]["content"]) == "422"]
    assert len(refused) == 1  # a refusal is not asked again
    notes = {row["where"] for row in run.read("generate", "rejects").to_pylist()}
    assert len(notes) == 5


def test_control_characters_in_a_reply_are_tolerated_and_do_not_reach_the_queries(make_recipe, generate):
    with TGI(faults=["control characters"]) as tgi:
        _, run = generate(make_recipe(1, endpoints=[tgi.url]))
    queries = run.read("generate", "pairs")["query"].to_pylist()
    assert len(queries) == 6 and all(query.isprintable() for query in queries)


def test_a_request_that_failed_in_passing_is_asked_again_by_the_same_command(make_recipe, generate):
    fallen = ["500"] * 2
    with TGI(faults=lambda text: fallen.pop() if fallen and "Clinic visit 1" in text else "") as tgi:
        recipe = make_recipe(3, endpoints=[tgi.url], attempts=2)
        with pytest.raises(RunError, match="1 of 3 requests have no answer"):
            generate(recipe)
        asked = len(tgi.asked)
        record, _ = generate(recipe)
        assert len(tgi.asked) == asked + 1
    assert record.counts["pairs"] == 18 and not record.rejects


def test_a_request_that_fails_in_two_runs_is_rejected_and_the_others_stand(make_recipe, generate):
    with TGI(faults=lambda text: "500" if "Clinic visit 1" in text else "") as tgi:
        recipe = make_recipe(3, endpoints=[tgi.url], attempts=2)
        with pytest.raises(RunError):
            generate(recipe)
        record, _ = generate(recipe)
    assert record.counts["pairs"] == 12
    assert record.rejects == {"no answer: 500 incomplete_generation": 1}


def test_bad_rows_are_rejected_with_reasons_and_the_rest_is_used(make_recipe, generate):
    rows = [json.dumps(note(n)).encode() for n in range(3)]
    rows += [json.dumps({**note(2), "id": "another"}).encode()]  # the same text again
    rows += [json.dumps({**note(3), "id": "MRN-0000"}).encode()]
    rows += [b'{"id": "x", "text": "  "}', b'{"id": "y"}', b'{"id": "z", "text": "\xff"}', b"{", b"[1]"]
    rows += [json.dumps({"id": "c", "text": "\x00\x07"}).encode()]
    with TGI() as tgi:
        recipe = make_recipe([], endpoints=[tgi.url])
        Path(recipe.notes[0].source).write_bytes(b"\n".join(rows))
        record, _ = generate(recipe)
    assert record.counts["notes"] == 3
    assert record.rejects == {
        "empty text": 2,
        "duplicate id": 1,
        "duplicate note": 1,
        "no text": 1,
        "not JSON": 1,
        "not UTF-8": 1,
        "not a JSON object": 1,
    }


def test_a_note_of_100_000_words_is_shown_in_part_and_stays_whole_in_the_corpus(make_recipe, generate):
    long = " ".join(f"Day {n}: the wound {n} was dressed and looked clean without discharge." for n in range(9000))
    with TGI() as tgi:
        record, run = generate(make_recipe([{"id": 1, "text": long}], endpoints=[tgi.url], max_note_tokens=500))
    assert len(long.split()) > 95_000
    assert 300 < count(tgi.asked[0]["messages"][1]["content"]) <= 500
    assert record.counts["notes shown in part"] == 1 and record.counts["pairs"] == 6
    assert record.counts["passages"] > 800
    assert "wound 8999" in run.read("generate", "corpus")["text"].to_pylist()[-1]


def test_a_note_beyond_the_servers_limit_is_shown_in_part_and_its_request_fits(make_recipe, generate):
    long = " ".join(f"Day {n}: the wound {n} was dressed and looked clean without discharge." for n in range(900))
    with TGI() as tgi:
        record, _ = generate(make_recipe([{"id": 1, "text": long}], endpoints=[tgi.url]))
    sent = sum(count(message["content"]) for message in tgi.asked[0]["messages"])
    assert record.counts["notes shown in part"] == 1
    assert 0.6 * 4096 < sent < 0.8 * 4096  # it says `max_input_tokens` 4096


def test_limit_takes_the_first_notes_and_without_it_the_others_follow(make_recipe, generate):
    with TGI() as tgi:
        tried, run = generate(make_recipe(9, endpoints=[tgi.url], limit=4))
        first = run.read("generate", "pairs").to_pylist()
        assert tried.counts["notes"] == len(tgi.asked) == 4
        record, run = generate(make_recipe(9, endpoints=[tgi.url]))
        assert record.counts["notes"] == len(tgi.asked) == 9
    assert run.read("generate", "pairs").to_pylist()[: len(first)] == first


def test_a_note_is_read_when_a_server_has_room_for_it_and_not_before(make_recipe, tmp_path):
    ahead: list[int] = []

    def watched(notes: Iterable[Any]) -> Iterator[Any]:
        for number, each in enumerate(notes, 1):
            ahead.append(number - len(tgi.asked))
            yield each

    with TGI(seconds=0.02) as tgi, Journal(append=tmp_path / "journal.jsonl") as journal:
        recipe = make_recipe(60, endpoints=[tgi.url])
        asyncio.run(ask(watched(read_notes(recipe.notes, recipe.generate)), recipe.generate, journal))
    assert len(ahead) == 60 and max(ahead) <= 2 * 4


def test_no_usable_note_is_told_and_the_rejects_are_there_to_read(make_recipe, generate, tmp_path):
    recipe = make_recipe([{"id": 1, "text": " "}, {"id": 2, "text": ""}], endpoints=["http://127.0.0.1:9"])
    with pytest.raises(RunError, match="no note is left: all 2 rows are rejected"):
        generate(recipe)
    assert pq.read_table(tmp_path / "run" / "generate" / "rejects.parquet").num_rows == 2


def test_faults_of_all_sources_are_told_together_before_anybody_is_asked(make_recipe, generate, tmp_path):
    pairs, empty = tmp_path / "pairs.csv", tmp_path / "empty.csv"
    pairs.write_text("question,positive\na,b\n")
    empty.write_text("")
    recipe = make_recipe(2, endpoints=["http://127.0.0.1:9"])
    bad_notes, bad_pairs = (
        kind(source=str(path), license="cc0-1.0") for kind, path in ((Notes, empty), (Pairs, pairs))
    )
    with pytest.raises(InputError) as raised:
        generate(recipe.model_copy(update={"notes": [*recipe.notes, bad_notes], "pairs": [bad_pairs]}))
    assert [fault.what for fault in raised.value.faults] == ["is empty: it holds no rows", "has no column query"]


def test_a_full_disk_is_told_and_the_same_command_goes_on(make_recipe, generate, monkeypatch):
    with TGI(seconds=0.02) as tgi:

        def full(_: int) -> None:
            if len(tgi.asked) > 3:
                raise OSError(errno.ENOSPC, "No space left on device")

        recipe = make_recipe(40, endpoints=[tgi.url])
        with monkeypatch.context() as patched, pytest.raises(RunError, match="no space left"):
            patched.setattr("os.fsync", full)
            generate(recipe)
        assert len(tgi.asked) < 40
        record, run = generate(recipe)
    assert record.counts["pairs"] == 240
    keys = [json.loads(line)["key"] for line in (run.folder / "journal.jsonl").open()]
    assert len(set(keys)) == 40


def test_the_stage_imports_no_torch():
    code = "import sys, medembed.generate as g; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_error_quotes_a_note(make_recipe, generate, tmp_path):
    headless = tmp_path / "headless.csv"
    headless.write_text('1,"Mrs. Doe, 81, fell at home and lay on the floor for the whole night"\n2,x\n')
    recipe = make_recipe(1, endpoints=["http://127.0.0.1:9"])
    with pytest.raises(MedEmbedError) as raised:
        generate(recipe.model_copy(update={"notes": [Notes(source=str(headless), license="cc0-1.0")]}))
    assert "Doe" not in str(raised.value) and "has no column text" in str(raised.value)


def test_when_all_endpoints_are_gone_the_run_stops_after_its_patience_and_later_goes_on(make_recipe, generate):
    with TGI(seconds=0.01) as tgi:
        recipe = make_recipe(20, endpoints=[tgi.url], attempts=3, patience=0.2)
        tgi.faults = dies_after(tgi, 8)
        with pytest.raises(RunError, match="no endpoint answers any more"):
            generate(recipe)
        tgi.dead, tgi.faults, asked = False, [], len(tgi.asked)
        record, run = generate(recipe)
        assert record.counts["pairs"] == 120 and not record.rejects
        assert 20 - 8 <= len(tgi.asked) - asked <= 20 - 4
    statuses = [json.loads(line)["status"] for line in (run.folder / "journal.jsonl").open()]
    assert statuses == ["ok"] * 20
