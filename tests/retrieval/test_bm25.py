"""BM25 against its formula, and with the texts that break tokenisers."""

import math
import re
from collections import Counter

import numpy as np

from medembed.retrieval.bm25 import BM25

PASSAGES = [
    "Hepatitis C is an infection of the liver.",
    "Hepatitis B is an infection of the liver; a vaccine exists.",
    "Chest pain after exercise.",
    "Chest pain after exercise.",
    "",
    "the of and",
]


def by_formula(query: str, passages: list[str]) -> list[float]:
    """Robertson's weights with Lucene's idf, k1 = 1.5 and b = 0.75, over words as they stand (none of these is stemmed)."""
    texts = [re.findall(r"[a-z0-9]+", passage.lower()) for passage in passages]
    mean = sum(map(len, texts)) / len(texts)
    scores = []
    for words in texts:
        count, score = Counter(words), 0.0
        for word in query.split():
            having = sum(word in other for other in texts)
            idf = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
            score += idf * count[word] / (count[word] + 1.5 * (0.25 + 0.75 * len(words) / mean))
        scores.append(score)
    return scores


def test_scores_are_those_of_the_formula() -> None:
    passages = ["fever cough", "fever fever pain", "pain", "cough cough cough pain fever"]
    found = BM25(passages).scores_at(["fever pain", "cough"], np.tile(np.arange(4), (2, 1)))
    np.testing.assert_allclose(found, [by_formula("fever pain", passages), by_formula("cough", passages)], rtol=1e-5)


def test_single_letters_and_word_forms_count() -> None:
    index = BM25(PASSAGES)
    assert index.search(["hepatitis c", "hepatitis B", "infections of livers"], 1)[0].tolist() == [[0], [1], [0]]


def test_equal_scores_stand_in_the_order_of_rows_and_what_shares_no_word_is_not_found() -> None:
    ids, scores = BM25(PASSAGES).search(["exercises", "unheard of", ""], 50)
    assert ids.tolist() == [[2, 3, -1, -1, -1, -1], [-1] * 6, [-1] * 6]
    assert (np.isneginf(scores) == (ids == -1)).all()


def test_only_the_first_rows_of_a_tie_are_kept() -> None:
    assert BM25(["pain"] * 9).search(["pain"], 4)[0].tolist() == [[0, 1, 2, 3]]


def test_scores_of_given_passages_are_those_of_the_search() -> None:
    index, queries = BM25(PASSAGES), ["hepatitis vaccine", "chest", "nothing"]
    ids, scores = index.search(queries, 3)
    np.testing.assert_array_equal(index.scores_at(queries, ids), scores)
    assert index.scores_at(queries, np.array([1, 2, 3])).tolist() == [scores[0, 0], scores[1, 0], 0]


def test_passages_without_a_word_and_none_at_all_are_no_special_cases() -> None:
    assert BM25(["", "the"]).search(["pain"], 2)[0].tolist() == [[-1, -1]]
    assert BM25([]).search(["pain"], 2)[0].shape == (1, 0)
    assert BM25(["pain"]).search([], 2)[0].shape == (0, 1)
    assert BM25(["pain " * 20_000]).search(["pain"], 1)[0].tolist() == [[0]]
    assert BM25(PASSAGES).scores_at([], np.empty(0, np.int64)).shape == (0,)
