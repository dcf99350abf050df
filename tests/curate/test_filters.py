"""Filters keep a row or give a reason; nothing is lost without one."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from medembed.curate import apply, labelled, split_of
from medembed.recipe import Filter, Pairs, Split
from medembed.rows import content_id

ROW: dict[str, Any] = {
    "query": "dose of metformin",
    "positive": "Plan: metformin 500 mg twice daily “with food”.",
    "evidence": 'metformin 500 mg\ntwice daily "with food"',
    "note_id": "n1",
    "passage_id": "p1",
}


def reasons(setting: dict[str, Any] | str, *rows: dict[str, Any]) -> list[str]:
    return [reject.reason for reject in apply(Filter.model_validate(setting), list(rows))[1]]


def test_evidence_may_differ_in_white_space_and_quotes_alone() -> None:
    assert reasons("evidence", ROW) == []
    assert reasons("evidence", ROW | {"evidence": "metformin 850 mg twice daily"}) == ["evidence not in the positive"]
    assert reasons("evidence", ROW | {"evidence": ""}) == ["evidence not in the positive"]
    assert reasons("evidence", ROW | {"evidence": None}) == []  # labelled pairs have none


def test_normalised_duplicates_are_caught_and_exact_ones_alone_on_request() -> None:
    shouted = ROW | {"query": "DOSE of  metformin?"}
    assert reasons("duplicates", ROW, shouted) == ["duplicate"]
    assert reasons({"duplicates": "exact"}, ROW, shouted, ROW) == ["duplicate"]
    assert reasons("duplicates", ROW, ROW | {"positive": "another"}) == []


def test_lengths_are_counted_in_words() -> None:
    limits = {"length": {"query": [2, 4], "positive": [1, 8]}}
    assert reasons(limits, ROW) == []
    assert reasons(limits, ROW | {"query": "dose"}, ROW | {"query": "a b c d e"}) == [
        "query too short",
        "query too long",
    ]
    assert reasons(limits, ROW | {"positive": "a " * 9}) == ["positive too long"]


@given(st.lists(st.tuples(st.sampled_from(["a b", "A  B.", "c d"]), st.sampled_from(["x", "X!", "y"]))))
def test_every_row_is_kept_or_rejected(texts: list[tuple[str, str]]) -> None:
    rows = [ROW | {"query": query, "positive": positive} for query, positive in texts]
    kept, rejects = apply(Filter.model_validate("duplicates"), rows)
    assert len(kept) + len(rejects) == len(rows)
    assert len(kept) == len({(q.casefold()[0], p.casefold()[0]) for q, p in texts})


def test_a_notes_rows_stay_in_one_split_and_the_share_is_kept() -> None:
    split = Split(dev=0.2, seed=1)
    drawn = [split_of(content_id(str(i)), split) for i in range(5000)]
    assert 0.18 < drawn.count("dev") / 5000 < 0.22
    assert drawn == [split_of(content_id(str(i)), split) for i in range(5000)]
    assert {split_of(content_id(str(i)), Split(dev=0)) for i in range(100)} == {"train"}


def test_pairs_of_one_document_share_a_note_id_that_does_not_show_the_users_own() -> None:
    source = Pairs(source="org/pairs", license="mit")
    row = {"query": "q", "positive": "p", "title": "T", "note_id": "MRN-123", "source": "s", "license": "mit"}
    pair, passage = labelled(row, source)
    other, _ = labelled(row | {"positive": "p2"}, source)
    assert pair["note_id"] == other["note_id"] == passage["note_id"] != "MRN-123"
    assert pair["passage_id"] == passage["passage_id"] != other["passage_id"]
    assert pair["positive"] == "T p"
