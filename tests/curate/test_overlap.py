"""Hashes say what a search for the words themselves would say."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medembed.curate.overlap import MOST, Overlap, ngrams

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=9).map(" ".join)
TEXTS = st.lists(WORDS, max_size=4)


def windows(text: str, n: int) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=4), WORDS, st.integers(3, 5))
def test_the_same_tasks_are_found_as_by_comparing_words(
    tasks: list[tuple[list[str], list[str]]], ours: str, n: int
) -> None:
    overlap = Overlap(n)
    for queries, passages in tasks:
        assert overlap.add(queries, passages) == (len({*queries} - {""}), len({*passages} - {""}))
    shared = {
        i
        for i, sides in enumerate(tasks)
        if any(windows(ours, n) & windows(text, n) for side in sides for text in side)
    }
    equal = {i for i, (queries, _) in enumerate(tasks) if ours and ours in queries}
    short = {i for i, (_, passages) in enumerate(tasks) if ours in passages and 0 < len(ours.split()) < n}
    of_query, of_passage = overlap.of_query(ours), overlap.of_passage(ours)
    assert {i for i, how in of_query.items() if how == "query match"} == equal
    assert set(of_query) == shared | equal
    assert set(of_passage) == shared | short


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=4), WORDS, st.integers(2, 3))
def test_what_stands_in_many_texts_of_a_task_does_not_count_for_it(
    tasks: list[tuple[list[str], list[str]]], ours: str, boilerplate: int
) -> None:
    overlap = Overlap(3, boilerplate)
    shared = set()
    for i, (queries, passages) in enumerate(tasks):
        overlap.add(queries, passages)
        texts = Counter(window for side in (queries, passages) for text in {*side} for window in windows(text, 3))
        often = {window for window, number in texts.items() if number >= boilerplate}
        assert overlap.boilerplate(i) == len(often)
        if windows(ours, 3) & (texts.keys() - often):
            shared.add(i)
    assert {i for i, how in overlap.of_passage(ours).items() if how == "n-gram"} == shared
    assert shared <= set(overlap.of_query(ours))


def test_a_task_can_be_added_after_texts_were_looked_up() -> None:
    overlap = Overlap(3)
    assert overlap.of_query("a b c") == {}
    overlap.add(["x y z"], [])
    assert overlap.of_query("x y z") == {0: "query match"}
    overlap.add([], ["w x y z"])
    assert overlap.of_passage("so x y z") == {0: "n-gram", 1: "n-gram"}


def test_the_order_of_words_counts() -> None:
    assert not set(ngrams(["a", "b", "c", "d"], 3).tolist()) & set(ngrams(["c", "b", "a", "d"], 3).tolist())
    assert ngrams(["a", "b"], 3).shape == (0,)


def test_random_n_grams_do_not_meet_by_chance() -> None:
    """200,000 different n-grams of few words: all hashes differ in the 56 bits that are kept."""
    words = np.random.default_rng(0).choice(list("abcdefgh"), 200_000).tolist()
    hashes = ngrams(words, 8) >> np.uint64(8)
    assert len(np.unique(hashes)) == len(windows(" ".join(words), 8))


def test_as_many_tasks_as_fit_into_a_byte() -> None:
    overlap = Overlap(3)
    for i in range(MOST):
        overlap.add([f"query {i}", "common query"], [])
    assert list(overlap.of_query("query 255")) == [255]
    assert len(overlap.of_query("common query")) == 256
    with pytest.raises(ValueError, match="no more than 256"):
        overlap.add([], [])
