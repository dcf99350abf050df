"""The gate for personal health information: what it finds, what it leaves, and that redacted rows still belong together."""

import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medembed import tables
from medembed.curate import phi
from medembed.curate.phi.classes import CLASSES, DIRECT
from medembed.curate.phi.identifiers import IDENTIFIERS
from medembed.curate.phi.names import PATTERNS
from medembed.curate.phi.spans import Finding, merged
from medembed.curate.sieve import Stored
from medembed.errors import InputError
from medembed.recipe import Phi
from medembed.rows import CORPUS, PAIRS, content_id, passage_input, stands_in

pytest.importorskip("presidio_analyzer", reason="Presidio is not installed: pip install 'medembed[phi]'")

from medembed.curate.phi.engine import LEAST, Finder
from tests.curate.phi.measure import HALVES, LOOK_ALIKE, measure

Row = dict[str, Any]
# A little below what `python -m tests.curate.phi.measure` tells of the half that the recognisers were not made with.
RECALL = dict.fromkeys(CLASSES, 0.8) | {"name": 0.65, "health plan": 0.65, "SSN": 0.7, "record": 0.75}
PRECISION = 0.95


@pytest.fixture(scope="module")
def finder() -> Finder:
    return Finder(Phi(policy="report"))


def passage(note: str, text: str, title: str = "") -> Row:
    return {
        "passage_id": content_id(title, text),
        "note_id": note,
        "text": text,
        "title": title,
        "source": "s",
        "license": "mit",
    }


def pair(of: Row, query: str, evidence: str | None = None) -> Row:
    said = {"query": query, "positive": passage_input(of["title"], of["text"]), "evidence": evidence}
    return dict.fromkeys(PAIRS.names) | said | {"passage_id": of["passage_id"], "note_id": of["note_id"]}


def sift(
    folder: Path, setting: Phi, passages: list[Row], pairs: Iterable[Row] = ()
) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """Passages and pairs as they come out (rows or reasons), a pair's positive made of its passage as the stage does; and the facts."""
    stored = Stored(folder / "pairs.parquet", folder / "passages.parquet", folder, folder)
    with tables.writing(stored.passages_path, CORPUS) as add:
        for row in passages:
            add(row)
    with tables.writing(stored.pairs_path, PAIRS) as add:
        for row in pairs:
            add(row)
    sieve = phi.sieve(setting, stored)
    out: dict[str, Any] = {row["passage_id"]: sieve.passage(row) for row in stored.passages()}
    said: list[Any] = []
    for row in stored.pairs():
        if isinstance(now := out[row["passage_id"]], str):
            said.append(now)
            continue
        moved = {
            "passage_id": content_id(now["title"], now["text"]),
            "positive": passage_input(now["title"], now["text"]),
            "note_id": now["note_id"],
        }
        said.append(sieve.pair(row | moved))
    return list(out.values()), said, sieve.facts()


def texts(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row["title"], row["text"]) for row in rows]


REDACT = Phi(policy="redact")
NOTE = passage(
    "n1", "Patient: Jane Doering, seen on 3/14 by Dr. Okonkwo. Called 212-555-0142.", "Visit of March 14, 2021"
)
LATER = passage("n1", "Doering was told by Jane's daughter to call 212-555-0142 on 3/15.")
OTHER = passage("n2", "Doering retractor placed; strength 5/5. Dr. Lindqvist, 03/14/2021.")


@pytest.mark.parametrize("half", HALVES)
def test_every_class_is_found_and_look_alikes_stay(finder: Finder, half: str) -> None:
    score = measure(finder, half)
    assert set(CLASSES) <= set(score.marked) and score.marked[LOOK_ALIKE] >= 80
    for kind in CLASSES:
        assert score.recall(kind) >= RECALL[kind], (kind, score.lines)
        assert score.precision(kind) >= PRECISION, (kind, score.lines)
    assert score.found[LOOK_ALIKE] <= 0.02 * score.marked[LOOK_ALIKE], score.lines


def test_no_setting_switches_a_pattern_off(finder: Finder) -> None:
    with pytest.raises(ValidationError, match="min_score"):
        Phi.model_validate({"policy": "redact", "min_score": 1.0})
    assert min(score for patterns in (*IDENTIFIERS.values(), PATTERNS) for _, score in patterns) >= LEAST
    assert [each.kind for each in finder.find("1EG4-TE5-MK73, AB1234563")] == ["health plan", "licence"]  # Presidio's


@pytest.mark.parametrize(
    "text, looks",
    [
        ("Metformin 500 mg twice daily.", 2),  # for names, for all
        ("Seen by Dr. Okonkwo on 3/14/2021.", 4),  # for more, and again
        ("The office, 8th Floor, New York, NY 10018 212-555-0142 was told.", 5),  # for more twice
    ],
)
def test_a_text_is_looked_at_as_often_as_docs_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, looks: int
) -> None:
    seen: list[str] = []
    find = Finder.find
    monkeypatch.setattr(Finder, "find", lambda self, text, only=None: seen.append(text) or find(self, text, only))
    sift(tmp_path, REDACT, [passage("n1", text)])
    assert len(seen) == looks <= 2 + phi.LOOKS + 1


def test_a_value_has_one_surrogate_in_all_of_its_note_and_numbers_begin_anew_in_the_next(tmp_path: Path) -> None:
    (first, later, other), _, _ = sift(tmp_path, REDACT, [NOTE, LATER, OTHER])
    assert first["title"] == "Visit of [DATE-1]"
    assert first["text"] == "Patient: [NAME-1], seen on [DATE-2] by Dr. [NAME-2]. Called [PHONE-1]."
    assert "call [PHONE-1] on [DATE-3]" in later["text"]
    assert other["text"] == "Doering retractor placed; strength 5/5. Dr. [NAME-1], [DATE-1]."


def test_a_name_known_from_one_passage_goes_from_all_passages_and_queries_of_its_note(tmp_path: Path) -> None:
    out, (asked,), _ = sift(
        tmp_path, REDACT, [LATER, NOTE], [pair(LATER, "what did jane doering hear, and Doering's daughter say")]
    )
    assert "Doering" not in out[0]["text"] and "Jane" not in out[0]["text"]
    assert asked["query"] == "what did [NAME-3] hear, and [NAME-1]'s daughter say"


@pytest.mark.parametrize("said", ["okonkwo plan", "OKONKWO plan", "jane doering, doering", "Jane DOERING"])
def test_a_known_name_goes_in_whatever_case_it_stands(tmp_path: Path, said: str) -> None:
    row = passage("n1", f"Patient: Jane Doering, seen by Dr. Okonkwo. Later: {said}.")
    (out,), (asked,), facts = sift(tmp_path, REDACT, [row], [pair(row, said, f"as {said} said")])
    for text in (out["text"], asked["query"], asked["evidence"]):
        assert not {"jane", "doering", "okonkwo"} & set(re.findall(r"\w+", text.casefold()))
    assert facts["remaining"] == {}


def test_a_name_that_is_a_word_as_well_goes_as_it_was_written_and_whole_in_any_case(tmp_path: Path) -> None:
    text = "Patient: Rosa Bishop, seen by Dr. Grant and Dr. Sharp. Sharp pain. Grant can grant it."
    row = passage("n1", text)
    (out,), (asked,), _ = sift(tmp_path, REDACT, [row], [pair(row, "rosa bishop: sharp pain, grants, bishop")])
    whole, grant, sharp = "[NAME-1]", "[NAME-2]", "[NAME-3]"
    assert out["text"] == f"Patient: {whole}, seen by Dr. {grant} and Dr. {sharp}. {sharp} pain. {grant} can grant it."
    assert asked["query"] == f"{whole}: sharp pain, grants, bishop"


def test_an_address_that_holds_a_known_name_is_an_address(tmp_path: Path) -> None:
    (out,), _, _ = sift(tmp_path, REDACT, [passage("n1", "Dr. Okonkwo, okonkwo@example.org, www.okonkwo.org")])
    assert out["text"] == "Dr. [NAME-1], [E-MAIL-1], [URL-1]"


def test_a_name_is_not_found_in_a_surrogate(tmp_path: Path) -> None:
    row = passage("n1", "Mr. Vehicle and Mrs. Phone, call 212-555-0142, plate number 4ABC123.")
    (out,), _, facts = sift(tmp_path, REDACT, [row])
    assert out["text"] == "Mr. [NAME-1] and Mrs. [NAME-2], call [PHONE-1], plate number [VEHICLE-1]."
    again = passage("n1", out["text"])
    assert texts(sift(tmp_path, REDACT, [row, again])[0])[1] == texts([again])[0] and facts["remaining"] == {}


@pytest.mark.parametrize(
    "evidence",
    [
        "seen on 3/14 by Dr. Okonkwo",  # as it stands
        "Okonkwo. Called 212-555",  # cuts two findings
        "3/14",  # no date when seen alone
        "Dr.\nOkonkwo",  # white space aside
        "Visit of March",  # of the title
    ],
)
def test_evidence_stands_verbatim_in_the_redacted_positive(tmp_path: Path, evidence: str) -> None:
    _, (row,), _ = sift(tmp_path, REDACT, [NOTE], [pair(NOTE, "who saw her", evidence)])
    assert stands_in(row["evidence"], row["positive"]), row["evidence"]
    assert "Okonkwo" not in row["evidence"] and "3/14" not in row["evidence"] and "March" not in row["evidence"]


def test_evidence_of_a_passage_without_findings_stays_as_it_is(tmp_path: Path) -> None:
    row = passage("n1", "Norco 10/325 for pain rated 4/10, strength 5/5.")
    (out,), (said,), facts = sift(tmp_path, REDACT, [row], [pair(row, "pain medication", "Norco 10/325")])
    assert texts([out]) == texts([row]) and said["evidence"] == "Norco 10/325" and facts["found"] == {}


FOREIGN = "MRN: 4821337, told to Jane Doering on 212-555-0142"  # evidence that stands in no passage


def test_evidence_that_is_not_from_the_passage_blocks_its_pair(tmp_path: Path) -> None:
    clean = passage("n3", "Metformin 500 mg twice daily.")
    asked = [pair(clean, "metformin dose", FOREIGN), pair(clean, "metformin dose", "Metformin 500 mg")]
    _, (blocked, kept), facts = sift(tmp_path, Phi(policy="block"), [clean], asked)
    assert blocked == "personal health information: name" and kept["evidence"] == "Metformin 500 mg"
    assert facts["found"] == {"name": 1, "phone": 1, "record": 1} and facts["remaining"] == {}


def test_evidence_that_is_not_from_the_passage_is_reported(tmp_path: Path) -> None:
    clean = passage("n3", "Metformin 500 mg twice daily.")
    _, (asked,), facts = sift(tmp_path, Phi(policy="report"), [clean], [pair(clean, "metformin dose", FOREIGN)])
    assert asked["evidence"] == FOREIGN and facts["found"] == facts["remaining"] == {"name": 1, "phone": 1, "record": 1}


def test_evidence_that_is_not_from_the_passage_is_redacted_counted_and_looked_at_again(tmp_path: Path) -> None:
    _, (alone,), before = sift(tmp_path, REDACT, [NOTE], [pair(NOTE, "who called")])
    _, (asked,), facts = sift(tmp_path, REDACT, [NOTE], [pair(NOTE, "who called", FOREIGN)])
    assert asked["evidence"] == "MRN: [RECORD-1], told to [NAME-1] on [PHONE-1]"  # as the passage has them
    assert facts["found"] == {"name": 3, "phone": 2, "date": 2, "record": 1} and facts["remaining"] == {}
    assert before["found"] == {"name": 2, "phone": 1, "date": 2} and alone["evidence"] is None


def test_what_evidence_quotes_is_counted_once_with_its_passage(tmp_path: Path) -> None:
    for policy in ("report", "redact"):
        _, _, facts = sift(tmp_path, Phi(policy=policy), [NOTE], [pair(NOTE, "who called", "Called 212-555-0142.")])
        assert facts["found"] == {"name": 2, "phone": 1, "date": 2}


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_any_stretch_of_a_passage_is_evidence_after_redaction_too(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(NOTE["text"]) - 1))
    span = NOTE["text"][start : data.draw(st.integers(start + 1, len(NOTE["text"])))]
    if span.split():
        _, (row,), _ = sift(tmp_path_factory.mktemp("gate"), REDACT, [NOTE], [pair(NOTE, "q", span)])
        assert stands_in(row["evidence"], row["positive"])


def test_what_stands_right_behind_another_finding_is_found_too(tmp_path: Path) -> None:
    row = passage("n1", "The office, 8th Floor, New York, NY 10018 212-555-0142 was told.")
    (out,), _, facts = sift(tmp_path, REDACT, [row])
    assert "555" not in out["text"] and "10018" not in out["text"]
    assert facts["remaining"] == {} and facts["found"]["phone"] == 1


def test_a_known_name_right_behind_another_finding_is_found_too_and_counted_where_it_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = passage("n1", "Dr. Okonkwo, call 212-555-0142okonkwo")
    (out,), _, facts = sift(tmp_path, REDACT, [row])
    assert out["text"] == "Dr. [NAME-1], call [PHONE-1][NAME-1]" and facts["remaining"] == {}
    monkeypatch.setattr(phi, "LOOKS", 0)
    (out,), _, facts = sift(tmp_path, REDACT, [row])
    assert out["text"].endswith("okonkwo") and facts["remaining"] == {"name": 1}


def test_what_is_redacted_stays_as_it_is_the_second_time(tmp_path: Path) -> None:
    out, _, facts = sift(tmp_path, REDACT, [NOTE, LATER, OTHER])
    assert facts["remaining"] == {} and facts["found"]["phone"] == 2
    again, _, facts = sift(tmp_path, REDACT, out)
    assert texts(again) == texts(out) and facts["found"] == {}


def test_report_leaves_the_rows_and_tells_numbers_alone(tmp_path: Path) -> None:
    out, (asked,), facts = sift(tmp_path, Phi(policy="report"), [NOTE], [pair(NOTE, "call 212-555-0142")])
    assert texts(out) == texts([NOTE]) and asked["query"] == "call 212-555-0142"
    assert facts["found"] == facts["remaining"] == {"name": 2, "date": 2, "phone": 2}
    assert facts["direct"] == list(DIRECT) and facts["names"] == "patterns only"
    assert not any(value in json.dumps(facts) for value in ("Doering", "555", "3/14"))


def test_block_rejects_with_the_gravest_class_and_no_value(tmp_path: Path) -> None:
    clean = passage("n3", "Metformin 500 mg twice daily.")
    out, pairs, facts = sift(tmp_path, Phi(policy="block"), [NOTE, clean], [pair(clean, "MRN 4821337 dose")])
    assert out[0] == "personal health information: name" and texts(out[1:]) == texts([clean])
    assert pairs == ["personal health information: record"] and facts["remaining"] == {}


def test_a_spacy_model_finds_names_that_nothing_around_them_shows(tmp_path: Path) -> None:
    import spacy

    model = spacy.blank("en")
    model.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Zorblatt"}])  # type: ignore[attr-defined]
    model.to_disk(tmp_path / "names")
    row = passage("n1", "Later Zorblatt felt better.")
    (out,), _, facts = sift(tmp_path, Phi(policy="redact", model=str(tmp_path / "names")), [row])
    assert out["text"] == "Later [NAME-1] felt better." and facts["names"] == str(tmp_path / "names")
    assert texts(sift(tmp_path, REDACT, [row])[0]) == texts([row])


def test_what_is_missing_is_told_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"there is no spaCy model en_not_there\n.*spacy download"):
        phi.reads(Phi(policy="report", model="en_not_there"))
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(InputError, match=r"pip install 'medembed\[phi\]'"):
        phi.reads(REDACT)


def test_no_logger_tells_a_text(finder: Finder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert finder.find(NOTE["text"])
    assert "Doering" not in caplog.text and "555" not in caplog.text


def test_importing_the_gate_imports_no_engine() -> None:
    code = "import sys, medembed.curate.phi; sys.exit(bool({'presidio_analyzer', 'spacy', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


HOSTILE = {
    "digits": "1" * 100_000,
    "capitals": "A" * 100_000,
    "letters": "a" * 100_000,
    "dots": "1.2." * 25_000,
    "dashes": "1-" * 50_000,
    "slashes": "3/14/" * 20_000,
    "names": "Jane " * 20_000,
    "titles": "Dr. " * 25_000,
    "labels": "MRN: " * 20_000,
    "at": "a.b@" * 25_000,
    "months": "March " * 16_000,
    "phones": "+1 555 " * 14_000,
    "hexadecimal": "a1:" * 33_000,
    "blanks": " " * 100_000,
    "lines": "\n" * 100_000,
    "nulls": "\0\x1b" * 50_000,
    "capitalised": "Ab" * 50_000,
    "cities": "Aa Bb, " * 14_000,
    "streets": "12 Aa Bb " * 11_000,
    "paths": "a/" * 50_000,
    "hashes": "# " * 50_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_passage_of_100_000_characters_takes_seconds_whatever_it_holds(finder: Finder, kind: str) -> None:
    start = time.process_time()
    finder.find(HOSTILE[kind])
    assert time.process_time() - start < 30  # on a busy machine; each takes under 3 s on a free core


@settings(deadline=None, max_examples=60)
@given(text=st.text(st.sampled_from("aZ09 .,:-/@#()\n\0'’Dé́ 12") | st.characters(), max_size=300))
def test_findings_lie_in_the_text_in_order_and_apart(finder: Finder, text: str) -> None:
    last = 0
    for start, end, kind, _ in finder.find(text):
        assert last <= start < end <= len(text) and kind in CLASSES
        last = end


@given(
    st.lists(
        st.builds(
            lambda a, n, k, s: Finding(a, a + n, k, s),
            st.integers(0, 30),
            st.integers(1, 9),
            st.sampled_from(CLASSES),
            st.sampled_from([0.5, 0.9]),
        )
    )
)
def test_merged_findings_cover_what_was_seen_and_no_more(seen: list[Finding]) -> None:
    found = merged(seen)
    assert {at for each in found for at in range(each.start, each.end)} == {
        at for each in seen for at in range(each.start, each.end)
    }
    assert all(one.end <= two.start for one, two in pairwise(found))
