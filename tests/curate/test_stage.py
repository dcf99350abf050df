"""Labelled pairs through the real stage: what can be used, what is rejected, how it is split."""

import json
from pathlib import Path
from typing import Any

import pytest

from medembed import stages
from medembed.errors import RunError
from medembed.recipe import DatasetRecipe
from medembed.run import Record, Run


def curate(folder: Path, rows: list[dict[str, Any]], **sections: Any) -> tuple[Record, Run]:
    source = folder / "pairs.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    said = {
        "kind": "dataset",
        "name": "pairs",
        "pairs": [{"source": str(source), "license": "mit"}],
        "publish": {"folder": "x"},
    }
    recipe = DatasetRecipe.model_validate(said | sections)
    run = Run(recipe, folder / "run")
    return stages.perform("curate", recipe, run), run


GOOD = [{"query": f"what is sign {n}", "positive": f"Sign {n} is a finding of disease number {n}."} for n in range(40)]


def test_every_row_is_kept_or_stands_in_the_rejects_with_its_reason(tmp_path: Path) -> None:
    bad = [
        {"query": "", "positive": "x"},
        {"query": "no positive at all"},
        GOOD[0],
        {"query": "short", "positive": "one two three four five"},
    ]
    record, run = curate(tmp_path, GOOD + bad)
    assert record.counts["pairs in"] == 44 and record.counts["pairs"] == 40
    assert record.rejects == {"duplicate": 1, "empty query": 1, "no positive": 1, "query too short": 1}
    rejects = run.read("curate", "rejects").to_pylist()
    assert all(row["where"] and row["reason"] for row in rejects)
    assert run.read("curate", "corpus").num_rows == 41  # a rejected query does not take its passage with it


def test_a_share_of_notes_is_held_back_and_their_rows_stay_together(tmp_path: Path) -> None:
    rows = [row | {"note_id": f"note {n // 4}"} for n, row in enumerate(GOOD)]
    _, run = curate(tmp_path, rows, split={"dev": 0.4})
    train, dev = (set(run.read("curate", f"pairs-{split}")["note_id"].to_pylist()) for split in ("train", "dev"))
    assert train and dev and not train & dev and len(train | dev) == 10


def test_when_no_pair_is_left_the_rejects_say_why(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"rejects.parquet there says"):
        curate(tmp_path, GOOD, curate=[{"length": {"query": [50, 60]}}])
    assert (tmp_path / "run" / "curate" / "rejects.parquet").exists()


def test_the_same_pairs_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert curate(tmp_path / "a", GOOD)[0].outputs == curate(tmp_path / "b", GOOD)[0].outputs
