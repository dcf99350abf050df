"""The gate for personal health information within the stage: nothing but texts that it has seen, and what follows from them, goes out."""

from pathlib import Path
from typing import Any, get_args

import pytest

from medembed.curate.gather import labelled
from medembed.recipe.dataset import QueryType
from tests.curate.test_stage import curate

pytest.importorskip("presidio_analyzer", reason="Presidio is not installed: pip install 'medembed[phi]'")


@pytest.mark.parametrize(
    "said, kept",
    [
        *((kind, kind) for kind in get_args(QueryType)),
        ("xiomara_quillfeather", "labelled"),
        ("asked by John Smith, MRN 4821337", "labelled"),
        ("question\n4821337", "labelled"),
        ("question\n", "labelled"),
        ("a" * 33, "labelled"),
        ("", "labelled"),
        (None, "labelled"),
    ],
)
def test_the_type_of_a_query_is_one_that_we_know_or_not_told(said: str | None, kept: str) -> None:
    row = {"query": "q", "positive": "p", "query_type": said, "source": "s", "license": "mit"}
    assert labelled(row)[0]["query_type"] == kept
    assert labelled({name: row[name] for name in row if name != "query_type"})[0]["query_type"] == "labelled"


def visits(note: str, name: str, day: str) -> list[dict[str, Any]]:
    """Pairs of a note with two passages, of which the gate finds all that can name somebody."""
    texts = {"who saw her": f"Seen by Dr. {name} on {day}.", f"{name.lower()} on iron": f"{name} gave iron for {note}."}
    return [{"query": query, "positive": text, "note_id": note} for query, text in texts.items()]


def gone_out(folder: Path, *notes: list[dict[str, Any]], policy: str = "redact") -> tuple[list[Any], list[Any]]:
    """(passages, pairs) after the gate."""
    folder.mkdir()
    _, run = curate(folder, [row for rows in notes for row in rows], curate=[{"phi": policy}])
    return run.read("curate", "corpus").to_pylist(), run.read("curate", "pairs-train").to_pylist()


def test_whatever_was_redacted_the_same_goes_out(tmp_path: Path) -> None:
    here = visits("MRN 4821337", "Okonkwo", "3/14/2021"), visits("MRN 4821338", "Lindqvist", "3/15/2021")
    there = visits("MRN 9000007", "Doering", "12/1/2019"), visits("MRN 9000008", "Halvorsen", "12/2/2019")
    passages, pairs = gone_out(tmp_path / "here", *here)
    assert (passages, pairs) == gone_out(tmp_path / "there", *there)  # ids and all
    assert [row["text"] for row in passages] == [
        "Seen by Dr. [NAME-1] on [DATE-1].",
        "[NAME-1] gave iron for MRN [RECORD-1].",
    ]


@pytest.mark.parametrize("policy", ["redact", "block", "report"])
def test_the_id_by_which_a_source_calls_a_note_does_not_go_out(tmp_path: Path, policy: str) -> None:
    rows = [{"query": f"iron {n}", "positive": f"Iron dose number {n}.", "note_id": f"{n // 2}"} for n in range(4)]
    named = [row | {"note_id": f"48213{row['note_id']}"} for row in rows]
    here, there = (gone_out(tmp_path / name, of, policy=policy) for name, of in (("here", rows), ("there", named)))
    assert here == there and len({row["note_id"] for row in here[0]}) == 2


def test_passages_of_a_note_stay_together_and_notes_that_begin_alike_apart(tmp_path: Path) -> None:
    first, second = visits("a 1", "Okonkwo", "3/14/2021"), visits("b 2", "Lindqvist", "3/15/2021")
    passages, pairs = gone_out(tmp_path / "both", first, second)
    by_text = {row["text"]: row["note_id"] for row in passages}
    assert (
        by_text["Seen by Dr. [NAME-1] on [DATE-1]."]
        == by_text["[NAME-1] gave iron for a 1."]
        != by_text["[NAME-1] gave iron for b 2."]
    )
    assert [(row["passage_id"], row["note_id"]) for row in pairs] == [
        (passages[at]["passage_id"], passages[at]["note_id"]) for at in (0, 1, 0, 2)
    ]


def test_another_note_changes_no_id_of_a_note(tmp_path: Path) -> None:
    note, other = visits("a 1", "Okonkwo", "3/14/2021"), [{"query": "q", "positive": "Aspirin daily.", "note_id": "0"}]
    alone, beside = gone_out(tmp_path / "alone", note), gone_out(tmp_path / "beside", other, note)
    assert beside[0][1:] == alone[0] and beside[1][1:] == alone[1]


PLAN = "Plan: rest and fluids, Quillfeather to come back after the course of antibiotics."
SEEN = {"query": "who saw her", "positive": "Dr. Quillfeather saw the patient for cough.", "note_id": "B"}


@pytest.mark.parametrize(
    "of_a, before",
    [
        (PLAN, []),  # the very text, in two notes
        (PLAN.lower(), [{"duplicates": {"of": ["passages"]}}]),  # the first of two that say the same
        (PLAN.replace("Plan", "Plans"), [{"duplicates": {"of": ["passages"], "near": 0.3}}]),
        (PLAN.lower(), [{"duplicates": {"of": ["passages"]}}, {"duplicates": {"of": ["passages"], "near": 0.3}}]),
    ],
)
@pytest.mark.parametrize("first_seen", [False, True])
def test_a_passage_that_notes_share_and_its_pairs_are_rid_of_the_names_of_all(
    tmp_path: Path, of_a: str, before: list[Any], first_seen: bool
) -> None:
    if any("near" in each["duplicates"] for each in before):
        pytest.importorskip("rensa")
    rows = [
        {"query": "what is the plan", "positive": of_a, "note_id": "A"},
        {"query": "what is the plan for Quillfeather", "positive": PLAN, "note_id": "B"},
    ]
    rows.insert(0 if first_seen else 2, SEEN)
    (tmp_path / "x").mkdir()
    _, run = curate(tmp_path / "x", rows, curate=[*before, {"phi": "redact"}])
    gone_out = run.read("curate", "pairs-train").to_pylist()
    texts = [row["text"] for row in run.read("curate", "corpus").to_pylist()]
    assert len(gone_out) == 3 and len(texts) == 2
    assert not any("quillfeather" in f"{row['query']} {row['positive']}".lower() for row in gone_out)
    assert not any("quillfeather" in text.lower() for text in texts)


def test_a_name_in_a_query_on_a_shared_passage_is_known_in_all_of_its_notes(tmp_path: Path) -> None:
    rows = [
        {"query": "what is the plan", "positive": "Rest and fluids.", "note_id": "A"},
        {"query": "what did Dr. Quillfeather plan", "positive": "Rest and fluids.", "note_id": "B"},
        {"query": "why rest", "positive": "Told Quillfeather of the cough.", "note_id": "B"},
    ]
    passages, _ = gone_out(tmp_path / "x", rows)
    assert [row["text"] for row in passages] == ["Rest and fluids.", "Told [NAME-1] of the cough."]
