"""Identifiers in the spellings of word processors and scans: other blanks and dashes, labels above their values, names in parts."""

from pathlib import Path

import pytest

pytest.importorskip("presidio_analyzer", reason="Presidio is not installed: pip install 'medembed[phi]'")

from medembed.curate.phi.engine import Finder
from medembed.recipe import Phi
from tests.curate.phi.measure import LOOK_ALIKE, measure
from tests.curate.test_phi import REDACT, pair, passage, sift, texts


@pytest.fixture(scope="module")
def finder() -> Finder:
    return Finder(Phi(policy="report"))


def test_of_a_sample_of_such_spellings_most_is_found_and_no_look_alike(finder: Finder) -> None:
    score = measure(finder, "typography")
    marked, right = (sum(of.values()) - of[LOOK_ALIKE] for of in (score.marked, score.found + score.misnamed))
    assert marked >= 45 and right >= 0.85 * marked, score.lines
    assert score.marked[LOOK_ALIKE] >= 20 and not score.found[LOOK_ALIKE] and not score.wrong, score.lines


@pytest.mark.parametrize(
    "text, found",
    [
        ("MRN:\xa04821337", "4821337"),
        ("MRN\t\t4821337", "4821337"),
        ("MRN:\u202f4821337", "4821337"),
        ("MRN:\n4821337", "4821337"),
        ("MRN:\r\n4821337", "4821337"),
        ("Account number:\n7710338", "7710338"),
        ("SSN:\n123456789", "123456789"),
        ("Patient:\tXiomara Quillfeather", "Xiomara Quillfeather"),
        ("Patient:\xa0Xiomara Quillfeather", "Xiomara Quillfeather"),
        ("Patient:\nXiomara Quillfeather", "Xiomara Quillfeather"),
        ("Attending:\nXiomara Quillfeather, MD", "Xiomara Quillfeather"),
        ("Dr.\xa0Quillfeather saw her", "Quillfeather"),
        ("Dr.\nQuillfeather saw her", "Quillfeather"),
        ("Pager 212\u2212555\u22120142", "212\u2212555\u22120142"),
        ("Pager:\n4417", "4417"),
        ("Call 212\u2010555\u20100142", "212\u2010555\u20100142"),
        ("Tel (212)\u2009555-0142", "(212)\u2009555-0142"),
        ("123\u201145\u20116789", "123\u201145\u20116789"),
        ("92\u2011year\u2011old man", "92\u2011year\u2011old"),
        ("DOB 3\u204414\u20441961", "3\u204414\u20441961"),
        ("on march 14, 2021", "march 14, 2021"),
        ("seen may 3 2021", "may 3 2021"),
        ("jan 3 2021", "jan 3 2021"),
        ("3 may 2021", "3 may 2021"),
        ("since march 14", "march 14"),
        ("in may 2021", "may 2021"),
    ],
)
def test_typography_line_ends_and_small_letters_hide_nothing(finder: Finder, text: str, found: str) -> None:
    assert [text[each.start : each.end] for each in finder.find(text)] == [found]


@pytest.mark.parametrize(
    "text",
    [
        "may 3 times a day",
        "march 10 steps",
        "she may 2 or 3 times",
        "10\u201320 mg, 2\u20133 tablets, 5\u20117 days, 120\u2044 80",
        "Plan:\n500 mg twice daily",
        "Labs:\n138 sodium",
        "Insurance: Medicare\nB12 deficiency",
        "Social:\n2009 quit smoking",
        "as the medical record\n120/80 says",
        "Assistant:\nContinue Metoprolol today",
    ],
)
def test_what_only_looks_alike_stays(finder: Finder, text: str) -> None:
    assert finder.find(text) == []


@pytest.mark.parametrize(
    "title, text, out",
    [
        ("MRN:", "4821337 was seen.", ("MRN:", "[RECORD-1] was seen.")),
        ("Patient Name:", "Quillfeather Xiomara came.", ("Patient Name:", "[NAME-1] came.")),
        ("Visit of March", "14, 2021: cough.", ("Visit of [DATE-1]", "[DATE-2]: cough.")),
        ("Iron", "Iron 200 mg daily.", ("Iron", "Iron 200 mg daily.")),
        ("x" * 999 + " MRN:", "4821337 " + "y" * 999, ("x" * 999 + " MRN:", "[RECORD-1] " + "y" * 999)),
    ],
)
def test_what_shows_only_where_title_and_text_meet_goes(
    tmp_path: Path, title: str, text: str, out: tuple[str, str]
) -> None:
    said, _, facts = sift(tmp_path, REDACT, [passage("n1", text, title)])
    assert texts(said) == [out] and facts["remaining"] == {}


def test_a_name_that_shows_only_where_title_and_text_meet_is_known_in_its_note(tmp_path: Path) -> None:
    first = passage("n1", "Quillfeather Xiomara came.", "Patient Name:")
    _, (asked,), _ = sift(tmp_path, REDACT, [first], [pair(first, "why did quillfeather come")])
    assert "quillfeather" not in asked["query"]


@pytest.mark.parametrize(
    "text, query, out",
    [
        ("Patient: Rosa Bishop. Bishop has been tired.", "is Bishop tired, bishop", "is [NAME-2] tired, bishop"),
        ("Patient: Mark Grace was seen.", "Is Mark well, mark", "Is [NAME-2] well, mark"),
        ("Patient: Wei Ng was seen.", "what did Ng report, NG tube", "what did [NAME-2] report, NG tube"),
        ("Patient: Li, Wei. She came.", "Li has a fever", "[NAME-2] has a fever"),
        ("Dr. O’Brien came.", "what did o'brien, O'Brien say", "what did [NAME-1], [NAME-1] say"),
        ("Patient: Xiomara\xa0Bishop.", "who is xiomara bishop", "who is [NAME-1]"),
        ("Patient: Rosa May.", "May she walk", "May she walk"),  # a word of every day
        ("Patient: Jane Doering Jr.", "a Jr doctor", "a Jr doctor"),
    ],
)
def test_the_parts_of_a_name_are_known(tmp_path: Path, text: str, query: str, out: str) -> None:
    row = passage("n1", text)
    _, (asked,), _ = sift(tmp_path, REDACT, [row], [pair(row, query)])
    assert asked["query"].replace("NAME-3", "NAME-2") == out
