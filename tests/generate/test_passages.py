"""Cutting notes: nothing is lost, nothing is longer than allowed, headings begin passages."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medembed.generate.passages import cut, normalise
from medembed.recipe import Passages
from medembed.tokens import count

WORDS = st.lists(
    st.sampled_from(["Pain.", "No", "fever", "Dr.", "HPI:", "\n", "PLAN:", "mg", "5.", "(3)", "e.g."]), max_size=400
)


def test_a_heading_begins_a_passage_and_a_short_section_joins_the_next():
    text = "HPI: one two three four five six.\n\nALLERGIES: none\nPLAN: stop it and come back to us in a week."
    assert cut(text, Passages(max_tokens=32, min_tokens=8), count) == [
        "HPI: one two three four five six.",
        "ALLERGIES: none\nPLAN: stop it and come back to us in a week.",
    ]


def test_a_long_section_is_cut_at_sentences_that_overlap():
    text = " ".join(f"Sentence {n} has five words." for n in range(9))
    passages = cut(text, Passages(max_tokens=32, min_tokens=1, overlap=1), count)
    assert passages[0].endswith("Sentence 4 has five words.")
    assert passages[1].startswith("Sentence 4 has five words. Sentence 5")


@settings(deadline=None)
@given(WORDS, st.integers(32, 90), st.integers(1, 20), st.integers(0, 3))
def test_every_word_is_in_a_passage_and_no_passage_is_too_long(words, most, least, overlap):
    text = normalise(" ".join(words))
    passages = cut(text, Passages(max_tokens=most, min_tokens=least, overlap=overlap), count)
    assert set(text.split()) == set(" ".join(passages).split())
    assert all(passage.strip() for passage in passages)
    # A short section may join the next, so a passage can be longer by less than one short section.
    assert all(count(passage) < most + least for passage in passages)


@settings(deadline=None)
@given(st.text(st.characters()))
def test_a_normalised_text_is_clean_and_stays_as_it_is(text):
    once = normalise(text)
    assert normalise(once) == once
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in once if c not in "\n\t")
    once.encode()


@pytest.mark.parametrize("text", ["", " \n ", "\x00"])
def test_nothing_gives_no_passage(text):
    assert cut(normalise(text), Passages(), count) == []
