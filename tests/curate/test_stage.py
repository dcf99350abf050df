"""Labelled pairs through the real stage: what can be used, what is rejected, how it is told, what a killed run leaves behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medembed import report, stages
from medembed.curate import sifting
from medembed.curate.sieve import Sieve
from medembed.errors import InputError, RunError
from medembed.publish import contents
from medembed.recipe import DatasetRecipe
from medembed.rows import content_id, passage_input
from medembed.run import Record, Run
from tests.curate.rows import pair, sifted
from tests.fixtures.beir import write_beir
from tests.mine.conftest import make_tiny_reranker


def recipe_of(folder: Path, rows: list[dict[str, Any]], **sections: Any) -> DatasetRecipe:
    source = folder / "pairs.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    said = {
        "kind": "dataset",
        "name": "pairs",
        "pairs": [{"source": str(source), "license": "mit"}],
        "publish": {"folder": "x"},
    }
    return DatasetRecipe.model_validate(said | sections)


def curate(folder: Path, rows: list[dict[str, Any]], **sections: Any) -> tuple[Record, Run]:
    recipe = recipe_of(folder, rows, **sections)
    run = Run(recipe, folder / "run")
    return stages.perform("curate", recipe, run), run


GOOD = [{"query": f"what is sign {n}", "positive": f"Sign {n} is a finding of disease number {n}."} for n in range(40)]
BAD = [
    {"query": "", "positive": "x"},
    {"query": "no positive at all"},
    GOOD[0],
    {"query": "short", "positive": "one two three four five six seven eight"},
]


def test_every_row_is_kept_or_stands_in_the_rejects_with_its_reason(tmp_path: Path) -> None:
    record, run = curate(tmp_path, GOOD + BAD)
    assert record.counts["pairs in"] == 44 and record.counts["pairs"] == 40
    assert record.rejects == {"duplicate": 1, "empty query": 1, "no positive": 1, "query too short": 1}
    rejects = run.read("curate", "rejects").to_pylist()
    assert all(row["where"] and row["reason"] for row in rejects)
    assert run.read("curate", "corpus").num_rows == 41  # a rejected query does not take its passage with it


def test_more_passages_go_through_the_same_filters_and_stand_once(tmp_path: Path) -> None:
    more = [{"text": f"Nothing of note number {n}.", "title": "More"} for n in range(5)]
    source = tmp_path / "more.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in [*more, more[0], {"text": " "}]), encoding="utf-8")
    corpus = [{"source": str(source), "license": "cc0-1.0"}]
    test = tmp_path / "test"
    write_beir(
        test,
        passages=[("d", "", "nothing of note number 3 indeed")],
        queries=[("q", "anything")],
        judgments=[("q", "d", 1)],
    )
    filters = [{"decontaminate": {"tasks": [str(test)], "ngram": 5}}]
    record, run = curate(tmp_path, GOOD[:3], corpus=corpus, curate=filters)
    assert record.rejects == {"decontaminate: test": 1, "empty text": 1}
    passages = run.read("curate", "corpus").to_pylist()
    assert [row["title"] for row in passages] == [""] * 3 + ["More"] * 4
    assert {row["license"] for row in passages[3:]} == {"cc0-1.0"} and record.counts["pairs in"] == 3
    assert record.facts["decontaminate"]["tasks"]["test"]["removed"]["passages"]["n-gram"] == 1


def test_the_report_says_what_each_filter_took(tmp_path: Path) -> None:
    record, _ = curate(tmp_path, GOOD + BAD)
    took = {each["filter"]: (each["pairs removed"], each["reasons"]) for each in record.facts["filters"]}
    assert took == {"evidence": (0, {}), "duplicates": (1, {"duplicate": 1}), "length": (1, {"query too short": 1})}
    assert record.facts["filters"][2]["settings"]["query"] == [2, 96]
    assert "44 → 40 pairs" in report.line(record)
    assert report.line(record).endswith("4 rejected: unreadable 2, duplicates 1, length 1")


def test_examples_are_for_the_authors_eyes_alone(tmp_path: Path) -> None:
    secret = "Zyxomine was started"
    rows = [*GOOD, *({"query": secret, "positive": f"{secret} on day {n} " * 200} for n in range(5))]
    record, run = curate(tmp_path, rows)
    assert record.rejects == {"positive too long": 5}
    shown = run.path("curate", "examples.md").read_text()
    assert shown.count(f"query:     {secret}") == 3 and "length: positive too long (5)" in shown
    assert max(map(len, shown.splitlines())) < 500
    assert secret not in run.path("curate", "record.json").read_text()
    published = contents(run.recipe, run)
    assert run.path("curate", "examples.md") not in published.values()
    assert not any(secret.encode() in content for content in published.values() if isinstance(content, bytes))


def test_only_what_is_to_stay_is_left(tmp_path: Path) -> None:
    _, run = curate(tmp_path, GOOD)
    names = {path.name for path in run.path("curate").iterdir()}
    tables = {"corpus.parquet", "pairs-train.parquet", "rejects.parquet"}
    assert names == tables | {"examples.md", "record.json", "started.json"}


def test_a_share_of_notes_is_held_back_and_their_rows_stay_together(tmp_path: Path) -> None:
    rows = [row | {"note_id": f"note {n // 4}"} for n, row in enumerate(GOOD)]
    _, run = curate(tmp_path, rows, split={"dev": 0.4})
    train, dev = (set(run.read("curate", f"pairs-{split}")["note_id"].to_pylist()) for split in ("train", "dev"))
    assert train and dev and not train & dev and len(train | dev) == 10


def test_a_passage_that_several_notes_share_is_in_one_split(tmp_path: Path) -> None:
    shared = [{"query": f"who asks {n}", "positive": "See the leaflet.", "note_id": f"note {n}"} for n in range(20)]
    _, run = curate(tmp_path, GOOD + shared, split={"dev": 0.5}, curate=["duplicates"])
    train, dev = (set(run.read("curate", f"pairs-{split}")["passage_id"].to_pylist()) for split in ("train", "dev"))
    assert train and dev and not train & dev and len(train | dev) == 41


def test_when_no_pair_is_left_the_rejects_say_why(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"rejects.parquet there says"):
        curate(tmp_path, GOOD, curate=[{"length": {"query": [50, 60]}}])
    assert (tmp_path / "run" / "curate" / "rejects.parquet").exists()


def test_a_filter_that_cannot_run_is_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown language"):
        curate(tmp_path, GOOD, curate=[{"language": ["klingon"]}])
    with pytest.raises(InputError, match="no tokenizer"):
        curate(tmp_path, GOOD, curate=[{"length": {"tokenizer": str(tmp_path)}}])
    assert not (tmp_path / "run" / "curate").exists()


def test_a_reranker_with_several_outputs_is_refused_before_any_text_is_encoded(
    tmp_path: Path, tiny_model: Path
) -> None:
    several = make_tiny_reranker(tiny_model, tmp_path / "several", outputs=3)
    trip = {"retriever": str(tiny_model), "reranker": str(several), "min_score": 0.1}
    with pytest.raises(InputError, match="gives 3 scores for a pair, not one"):
        curate(tmp_path, GOOD, curate=[{"generic": {"retriever": str(tiny_model)}}, {"round_trip": trip}])
    assert not (tmp_path / "run" / "embeddings").exists()


def test_the_same_pairs_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert curate(tmp_path / "a", GOOD)[0].outputs == curate(tmp_path / "b", GOOD)[0].outputs


# ---- passages that change --------------------------------------------------------------------------------------------


def test_a_changed_passage_gets_a_new_id_and_its_pairs_follow() -> None:
    rows = [pair("q1", "Seen by Dr Smith."), pair("q2", "Seen by Dr Jones."), pair("q3", "Nobody was seen.")]

    def redact(row: dict[str, Any]) -> dict[str, Any] | str:
        if "Nobody" in row["text"]:
            return "empty visit"
        return row | {"text": row["text"].replace("Smith", "[NAME]").replace("Jones", "[NAME]")}

    result = sifted(Sieve(passage=redact, facts=lambda: {"found": 2}), rows)
    (passage,) = result.passages  # two that say the same, once they are redacted
    assert passage["passage_id"] == content_id("", "Seen by Dr [NAME].")
    assert [(row["query"], row["positive"], row["passage_id"], row["note_id"]) for row in result.pairs] == [
        (query, passage_input("", passage["text"]), passage["passage_id"], passage["note_id"]) for query in ("q1", "q2")
    ]
    assert result.reasons == ["duplicate passage", "empty visit", "passage: empty visit"]
    assert result.account["passages removed"] == 2 and result.account["pairs removed"] == 1
    assert result.account["facts"]["found"] == 2


def test_what_becomes_equal_to_a_later_passage_stands_once() -> None:
    rows = [pair("q1", "Seen by Dr Smith."), pair("q2", "Seen by Dr [NAME].")]
    result = sifted(Sieve(passage=lambda row: row | {"text": row["text"].replace("Smith", "[NAME]")}), rows)
    assert len(result.passages) == 1 and result.reasons == ["duplicate passage"]
    assert {row["passage_id"] for row in result.pairs} == {result.passages[0]["passage_id"]}


# ---- killed ----------------------------------------------------------------------------------------------------------

FILTERS: list[Any] = ["evidence", {"duplicates": {"of": ["pairs", "passages"], "near": 0.5}}, "length", "copies"]
KILLED = """
import os, signal, sys
from pathlib import Path
from medembed import run, stages
from medembed.recipe import DatasetRecipe

left, replacing = int(sys.argv[3]), Path.replace
def until_killed(path, target):  # every file that is written takes its place by this
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return replacing(path, target)
Path.replace = until_killed
recipe = DatasetRecipe.model_validate_json(Path(sys.argv[1]).read_text())
stages.perform("curate", recipe, run.Run(recipe, Path(sys.argv[2])))
"""


@pytest.mark.parametrize("files", [3, 8, 18])
def test_killed_at_any_file_the_same_command_ends_as_if_undisturbed(tmp_path: Path, files: int) -> None:
    rows = GOOD + BAD
    recipe = recipe_of(tmp_path, rows, curate=FILTERS)
    (tmp_path / "recipe.json").write_text(
        recipe.model_dump_json(exclude={"curate"})[:-1] + f', "curate": {json.dumps(FILTERS)}}}'
    )
    command = [sys.executable, "-c", KILLED, str(tmp_path / "recipe.json"), str(tmp_path / "killed"), str(files)]
    killed = subprocess.run(
        command, check=False, capture_output=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)}
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-500:]
    again, whole = Run(recipe, tmp_path / "killed"), Run(recipe, tmp_path / "whole")
    assert stages.perform("curate", recipe, again).outputs == stages.perform("curate", recipe, whole).outputs
    assert again.path("curate", "examples.md").read_bytes() == whole.path("curate", "examples.md").read_bytes()
    assert {path.name for path in again.path("curate").iterdir()} == {
        path.name for path in whole.path("curate").iterdir()
    }


def test_a_filter_that_was_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    write_json = sifting.write_json

    def stop_after_two(path: Path, value: Any) -> None:
        write_json(path, value)
        done.append(path.parent.name)
        if len(done) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(sifting, "write_json", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        curate(tmp_path, GOOD + BAD, curate=FILTERS)
    curate(tmp_path, GOOD + BAD, curate=FILTERS)
    assert done == ["1-evidence", "2-duplicates", "3-length", "4-copies"]
