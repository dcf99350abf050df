"""What a source says of its licence, and what follows for what is made of it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medembed.licences import AGREEMENT, CLOSING, HUB_IDS, OTHER, asks, attributions, identify, is_open, of_all, terms

KNOWN = sorted({licence for licence in HUB_IDS if asks(licence) is not None} | {"public-domain", "cc-by", AGREEMENT})
ANY = sorted({*KNOWN, *HUB_IDS, "unknown", "other"})


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("cc-by-4.0", "cc-by-4.0"),
        ("CC BY 4.0", "cc-by-4.0"),
        ("CC-BY-SA-4.0", "cc-by-sa-4.0"),
        ("Creative Commons Attribution 4.0 International", "cc-by-4.0"),
        ("Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International", "cc-by-nc-sa-4.0"),
        ("Creative Commons - Attribution - https://creativecommons.org/licenses/by/4.0/", "cc-by-4.0"),
        ("https://creativecommons.org/licenses/by-nc-sa/4.0/", "cc-by-nc-sa-4.0"),
        ("https://creativecommons.org/licenses/by-me-a-beer/4.0/", "unknown"),
        ("CC BY-NC-SA", "cc-by-nc-sa"),
        ("CC0", "cc0-1.0"),
        ("CC0 1.0", "cc0-1.0"),
        ("Public Domain", "public-domain"),
        ("Apache-2.0", "apache-2.0"),
        ("Apache License 2.0", "apache-2.0"),
        ("GPL-3.0-only", "gpl-3.0"),
        ("ODC-By-1.0", "odc-by"),
        ("ODbL v1.0", "odbl"),
        ("CC BY 4.0, for non-commercial use", "unknown"),
        ("https://creativecommons.org/licenses/by/4.0/ (research use only)", "unknown"),
        ("all rights reserved", "unknown"),
        ("The patient was seen on Monday.", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_one_licence_in_many_spellings_is_one(said: str | None, means: str) -> None:
    assert identify(said) == means


@pytest.mark.parametrize(
    "said",
    [
        "PhysioNet Credentialed Health Data License 1.5.0",
        "PhysioNet Restricted Health Data License 1.5.0",
        "physionet-credentialed-health-data-license-1.5.0",
        "n2c2 Data Use Agreement",
        "DUA",
        "MIMIC-III",
        "mimic3",
        "MIMICIV",
    ],
)
def test_an_agreement_is_known_by_what_the_licence_is_called(said: str) -> None:
    assert identify(said) == AGREEMENT


@pytest.mark.parametrize(
    ("source", "signed"),
    [
        ("someone/mimic-iv-notes", True),
        ("someone/MIMIC_III_discharge", True),
        ("mimic3.jsonl", True),
        ("org/mimic", True),
        ("org/mimiciv", True),
        ("org/mimicnotes", True),
        ("org/clinical_mimicsql", True),
        ("org/n2c2-2018", True),
        ("eicu-crd.parquet", True),
        ("org/mednli", True),
        ("org/mimicry-in-birds", False),
        ("org/pantomimic", False),
        ("org/stroke-mimics", False),
        ("mimicked_notes.jsonl", False),
        ("common-pile/pubmed_filtered", False),
        ("notes.jsonl", False),
    ],
)
def test_a_source_that_must_be_signed_for_stays_so_whatever_licence_a_copy_claims(source: str, signed: bool) -> None:
    assert identify("mit", source) == (AGREEMENT if signed else "mit")


def test_non_commercial_no_derivatives_signed_and_unknown_are_not_open() -> None:
    closed = ("cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-sa-4.0", AGREEMENT, "unknown", "other", "llama3.1")
    assert not any(map(is_open, closed))
    assert all(map(is_open, ("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by", "public-domain", "apache-2.0", "odbl")))


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ("cc-by-4.0 cc-by-4.0", "cc-by-4.0"),
        ("cc-by-4.0 cc0-1.0", "cc-by-4.0"),
        ("cc-by-4.0 public-domain", "cc-by-4.0"),
        ("public-domain", "other"),  # the Hub has no identifier for it, and it is not ours to declare CC0
        ("public-domain cc0-1.0 pddl", "cc0-1.0"),
        ("public-domain pddl", "other"),
        ("cc-by-3.0 cc-by-4.0", "cc-by-4.0"),
        ("cc-by cc-by-3.0", "cc-by-3.0"),
        ("cc-by", "other"),
        ("cc-by-4.0 cc-by-sa-4.0", "cc-by-sa-4.0"),
        ("cc-by-4.0 cc-by-sa-4.0 cc0-1.0", "cc-by-sa-4.0"),
        ("cc-by-4.0 cc-by-sa-3.0", "other"),
        ("cc-by-sa-3.0 cc-by-sa-4.0", "other"),
        ("cc-by-4.0 cc-by-nc-4.0", "cc-by-nc-4.0"),
        ("cc-by-nc-4.0 cc-by-nc-sa-4.0", "cc-by-nc-sa-4.0"),
        ("cc-by-sa-4.0 cc-by-nc-4.0", "other"),
        ("cc-by-sa-4.0 cc-by-nc-sa-4.0", "other"),
        ("cc-by-nd-4.0", "cc-by-nd-4.0"),
        ("cc-by-nd-4.0 cc-by-4.0", "other"),
        ("mit cc0-1.0", "mit"),
        ("mit apache-2.0", "other"),
        ("mit cc-by-4.0", "other"),
        ("odbl cc-by-4.0", "other"),
        ("unknown cc0-1.0", "other"),
        (f"{AGREEMENT} cc0-1.0", "other"),
        ("llama3.1 cc0-1.0", "llama3.1"),
    ],
)
def test_what_a_mixture_is_under(parts: str, whole: str) -> None:
    for order in itertools.permutations(parts.split()):
        assert of_all(order) == whole


@given(st.lists(st.sampled_from(ANY), min_size=1, max_size=5))
def test_no_mixture_is_more_permissive_than_any_of_its_parts(parts: list[str]) -> None:
    whole = of_all(parts)
    assert whole in HUB_IDS | {OTHER}
    assert not is_open(whole) or all(map(is_open, parts))
    if whole == OTHER:
        return
    asked = asks(whole)
    for part in parts:
        of_part = asks(part)
        assert (
            part == whole or (of_part is not None and asked is not None and of_part <= asked) or of_part == frozenset()
        )
        assert of_part is None or "share-alike" not in of_part or part == whole
        assert of_part is None or "no-derivatives" not in of_part or part == whole


@given(st.lists(st.sampled_from(ANY), min_size=1, max_size=5))
def test_a_mixture_mixed_again_with_a_part_of_it_stays_what_it_is(parts: list[str]) -> None:
    whole = of_all(parts)
    assert whole == OTHER or of_all([whole, *parts]) == whole


def test_everything_closing_is_closed_and_nothing_else() -> None:
    assert all(is_open(licence) == (not (asks(licence) or frozenset()) & CLOSING) for licence in KNOWN)


def test_who_asks_to_be_named_is_named_once_with_links() -> None:
    origins = {
        "pairs": [{"source": "org/pairs", "license": "cc-by-4.0", "rows": 3}],
        "corpus": [
            {"source": "org/pairs", "license": "cc-by-4.0", "rows": 5},
            {"source": "free.jsonl", "license": "cc0-1.0", "rows": 5},
            {"source": "odd.jsonl", "license": "unknown", "rows": 5},
        ],
    }
    assert attributions(origins) == [
        {"source": "odd.jsonl", "license": "unknown", "link": None, "terms": None},
        {
            "source": "org/pairs",
            "license": "cc-by-4.0",
            "link": "https://huggingface.co/datasets/org/pairs",
            "terms": "https://creativecommons.org/licenses/by/4.0/",
        },
    ]
    assert terms("cc-by-nc-sa-3.0") == "https://creativecommons.org/licenses/by-nc-sa/3.0/"
