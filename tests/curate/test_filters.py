"""Filters keep a row or give a reason; nothing is lost without one."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medembed.curate import split_of
from medembed.curate.copies import copied
from medembed.curate.gather import labelled
from medembed.errors import InputError
from medembed.recipe import Filter, Split
from medembed.rows import content_id
from tests.curate.rows import pair, sifted

ROW = pair("dose of metformin", "Plan: metformin 500 mg twice daily “with food”.")


def reasons(setting: Any, *rows: dict[str, Any]) -> list[str]:
    return sifted(setting, list(rows)).reasons


# ---- evidence, length ------------------------------------------------------------------------------------------------


def test_evidence_may_differ_in_white_space_and_quotes_alone() -> None:
    assert reasons("evidence", ROW | {"evidence": 'metformin 500 mg\ntwice daily "with food"'}) == []
    assert reasons("evidence", ROW | {"evidence": "metformin 850 mg twice daily"}) == ["evidence not in the positive"]
    assert reasons("evidence", ROW | {"evidence": ""}) == ["evidence not in the positive"]
    assert reasons("evidence", ROW | {"evidence": None}) == []  # labelled pairs have none


def test_lengths_are_counted_in_tokens() -> None:
    limits = {"length": {"query": [2, 4], "positive": [1, 8]}}
    short = pair("dose of iron", "Iron daily.")
    assert reasons(limits, short) == []
    assert reasons(limits, short | {"query": "dose"}, short | {"query": "a b c d e"}) == [
        "query too short",
        "query too long",
    ]
    assert reasons(limits, pair("dose of iron", "a " * 9)) == ["positive too long"]


def test_a_tokenizer_of_the_recipe_counts_by_its_own_pieces(tiny_model: Path) -> None:
    limits = {"length": {"query": [1, 4], "positive": [1, 64], "tokenizer": str(tiny_model)}}
    assert reasons(limits, pair("pain in the chest", "chest pain")) == []
    assert reasons(limits, pair("xyzzy", "chest pain")) == ["query too long"]  # letter by letter, in this vocabulary


# ---- language --------------------------------------------------------------------------------------------------------

SHORTHAND = [
    "s/p CABG POD3 fever w/u",
    "NSTEMI tx CKD4 no cath",
    "AKI on CKD3 Cr 2.9 hold ACEi",
    "HFrEF EF 25 BB titration",
    "metformin 500 mg BID",
    "cefepime neurotoxicity",
    "n/v/d x3d K 2.9",
    "PTT heparin",
]
FOREIGN = [
    "Wie behandelt man Kopfschmerzen bei Kindern?",
    "causas de la anemia",
    "traitement de l'insuffisance cardiaque",
    "leczenie cukrzycy typu 2",
    "лечение гипертонии",
    "高血圧の治療",
]


def test_english_shorthand_is_kept_and_queries_in_another_language_are_not() -> None:
    passage = "The patient was started on metformin and will be seen again in four weeks."
    rows = [pair(query, passage) for query in SHORTHAND + FOREIGN]
    result = sifted("language", rows)
    assert [row["query"] for row in result.pairs] == SHORTHAND
    assert set(result.reasons) == {"query in another language"}


def test_a_passage_in_another_language_takes_its_pairs_with_it() -> None:
    german = "Die Patientin klagt seit drei Tagen über starke Kopfschmerzen und Übelkeit."
    result = sifted("language", [pair("headache for three days", german)])
    assert result.reasons == ["another language", "passage: another language"]
    assert result.passages == []


def test_values_without_words_are_in_no_language() -> None:
    assert reasons("language", pair("7.35 40 24", "138 4.1 102 24 12 0.9 / 120 80 72 98.6")) == []


def test_an_unknown_language_is_told_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown language klingon[\s\S]*Known are .*\ben\b"):
        sifted({"language": ["klingon"]}, [ROW])


# ---- copies ----------------------------------------------------------------------------------------------------------

PASSAGE = "Assessment: acute on chronic heart failure, started on IV furosemide, weight down 3 kg."


def test_a_query_copied_out_of_its_passage_is_rejected_and_keywords_are_not() -> None:
    told = ["query copied from the passage"]
    assert reasons("copies", pair("acute on chronic heart failure, started on IV furosemide", PASSAGE)) == told
    assert reasons("copies", pair("IV furosemide", PASSAGE)) == []  # what a clinician types
    assert reasons("copies", pair("why was IV furosemide started", PASSAGE)) == []
    assert reasons({"copies": 0.5}, pair("what about chronic heart failure", PASSAGE)) == told  # 3 of 5 in a row


@given(st.text("ab ", max_size=30), st.text("ab ", max_size=60), st.sampled_from([0.3, 0.5, 0.9, 1.0]))
def test_copying_is_the_longest_run_of_words(query: str, positive: str, share: float) -> None:
    words, text = query.split(), positive.split()
    runs = [
        b - a
        for a in range(len(words))
        for b in range(a + 1, len(words) + 1)
        if any(text[i : i + b - a] == words[a:b] for i in range(len(text)))
    ]
    expected = len(words) >= 4 and max(runs, default=0) >= share * len(words) - 1e-9
    assert copied(query, positive, share) == expected


# ---- split, labelled pairs -------------------------------------------------------------------------------------------


def test_a_notes_rows_stay_in_one_split_and_the_share_is_kept() -> None:
    split = Split(dev=0.2, seed=1)
    drawn = [split_of(content_id(str(i)), split) for i in range(5000)]
    assert 0.18 < drawn.count("dev") / 5000 < 0.22
    assert drawn == [split_of(content_id(str(i)), split) for i in range(5000)]
    assert {split_of(content_id(str(i)), Split(dev=0)) for i in range(100)} == {"train"}


def test_pairs_of_one_document_share_a_note_id_that_does_not_show_the_users_own() -> None:
    row = {"query": "q", "positive": "p", "title": "T", "note_id": "MRN-123", "source": "s", "license": "mit"}
    found, passage = labelled(row)
    other, _ = labelled(row | {"positive": "p2"})
    assert found["note_id"] == other["note_id"] == passage["note_id"] != "MRN-123"
    assert found["passage_id"] == passage["passage_id"] != other["passage_id"]
    assert found["positive"] == "T p"


# ---- whatever the rows are -------------------------------------------------------------------------------------------

TEXTS = st.one_of(st.sampled_from(["", " ", "?!", "a b c d e", "A  b, C d e", "a b c d f"]), st.text(max_size=12))
SETTINGS: list[Any] = [
    "evidence",
    {"duplicates": {"of": ["pairs", "queries", "passages"], "near": 0.5}},
    {"length": {"query": [1, 5], "positive": [1, 5]}},
    "copies",
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: Filter.model_validate(setting).name)
@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(TEXTS, TEXTS), max_size=8))
def test_every_row_is_kept_or_rejected_once_and_in_order(setting: Any, rows: list[tuple[str, str]]) -> None:
    given_rows = [pair(query, positive) | {"query_type": str(i)} for i, (query, positive) in enumerate(rows)]
    result = sifted(setting, given_rows)
    kept = [int(row["query_type"]) for row in result.pairs]
    lost = [int(row["query_type"]) for row in result.rejected_pairs]
    assert sorted(kept + lost) == list(range(len(rows)))
    assert kept == sorted(kept) and lost == sorted(lost)
    assert {row["passage_id"] for row in result.pairs} <= {row["passage_id"] for row in result.passages}


@pytest.mark.parametrize("setting", [*SETTINGS, "language"], ids=str)
def test_texts_of_a_hundred_thousand_characters_are_no_trouble(setting: Any) -> None:
    rows = [pair(f"dose {i}", f"{i} " + "iron daily " * 10_000) for i in range(3)]
    result = sifted(setting, rows)
    assert len(result.pairs) + len(result.rejected_pairs) == 3
