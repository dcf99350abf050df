"""Hard negatives: near, within every bound, and never false by text."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medembed.mine import negatives
from medembed.mine.negatives import MARGIN, NEAR, REASONS, Rules, order
from medembed.recipe import Mine
from medembed.rows import fold, shingles
from tests.mine.columns import corpus_of, mined, pairs_of

LONG = [
    "aspirin",
    "lowers",
    "the",
    "risk",
    "of",
    "a",
    "second",
    "stroke",
    "in",
    "adults",
    "with",
    "high",
    "blood",
    "pressure",
]


def test_the_nearest_below_the_margin_are_taken_with_their_scores_and_ranks() -> None:
    ids, pools = mined([[0.8, 0.9, 0.77, 0.75, 0.5]])
    assert ids == [[3, 4]]  # 1 beats the positive, 2 is above 95 % of it
    assert pools.scores[0] == pytest.approx([0.75, 0.5])
    assert pools.ranks[0].tolist() == [4, 5]
    assert pools.positives[0] == pytest.approx(0.8)
    assert pools.found[REASONS[MARGIN]] == 2


def test_a_margin_under_a_negative_score_still_lies_below_it() -> None:
    assert mined([[-0.5, -0.49, -0.51, -0.6, -0.7]])[0] == [[3, 4]]


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ({"relative_margin": None}, [1, 2]),
        ({"absolute_margin": 0.25}, [4, 5]),
        ({"max_score": 0.6}, [4, 5]),
        ({"min_score": 0.66}, [2, 3]),
        ({"ranks": [4, 6]}, [3, 4]),  # the positive has a rank too
        ({"ranks": [5, 6]}, [4, 5]),
        ({"relative_margin": 0.8, "absolute_margin": 0.1}, [4, 5]),
    ],
)
def test_each_bound_is_what_the_recipe_says(said: dict[str, Any], taken: list[int]) -> None:
    assert mined([[0.8, 0.9, 0.7, 0.66, 0.5, 0.4]], **said)[0] == [taken]


def test_no_negative_has_the_positives_text_or_that_of_another_negative() -> None:
    texts = ["Take iron.", "take IRON", "b", "B!", "c"]
    assert mined([[0.9, 0.5, 0.4, 0.39, 0.3]], texts=texts)[0] == [[2, 4]]


def test_what_almost_repeats_the_positive_is_no_negative() -> None:
    texts = [" ".join(LONG), " ".join([*LONG, "indeed"]), " ".join(LONG[:7]), "b", "c"]
    ids, pools = mined([[0.9, 0.5, 0.4, 0.3, 0.2]], texts=texts)
    assert ids == [[2, 3]]
    assert pools.found[REASONS[NEAR]] == 1
    assert mined([[0.9, 0.5, 0.4, 0.3, 0.2]], texts=texts, near_duplicate=None)[0] == [[1, 2]]


@pytest.mark.parametrize("splits", [[0, 0], [0, 1]])
def test_what_answers_a_query_in_any_split_is_its_negative_in_none(splits: list[int]) -> None:
    scores = [0.9, 0.5, 0.4, 0.3]
    asked = [("what is it", 0), ("What is it?", 1)]
    assert mined([scores, scores], asked, splits=splits, relative_margin=None)[0] == [[2, 3], [2, 3]]


def test_what_almost_repeats_another_positive_of_the_query_is_no_negative() -> None:
    texts = ["iron is taken daily", " ".join(LONG), " ".join([*LONG, "indeed"]), "b", "c"]
    scores, asked = [0.9, 0.5, 0.4, 0.3, 0.2], [("q", 0), ("Q?", 1), ("another", 0)]
    found, _ = mined([scores] * 3, asked, texts=texts, relative_margin=None)
    assert found == [[3, 4], [3, 4], [1, 2]]


SAID = st.lists(st.sampled_from(["a", "B", "b.", "c", "", "é"]), max_size=9).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(SAID, min_size=1, max_size=9), least=st.sampled_from([0.01, 0.25, 0.5, 2 / 3, 1.0]), data=st.data()
)
def test_near_is_what_a_comparison_with_each_positive_finds_near(
    texts: list[str], least: float, data: st.DataObject
) -> None:
    corpus, passage = corpus_of(texts), st.integers(0, len(texts) - 1)
    asked = data.draw(st.lists(st.tuples(st.sampled_from(["q", "Q?", "r"]), passage), min_size=1, max_size=9))
    options = Mine.model_validate({"retriever": "a/b", "near_duplicate": least})
    rules = Rules(pairs_of(corpus, asked), corpus, options)
    said = [shingles(text) for text in texts]
    for row, (query, _) in enumerate(asked):
        positives = {positive for other, positive in asked if fold(other) == fold(query)}
        for other in range(len(texts)):
            near = any(len(said[p] & said[other]) >= least * len(said[p] | said[other]) for p in positives)
            assert rules.is_near(row, other) == near


@pytest.mark.parametrize(("fewer", "most"), [("drop", 60 + 2 * 2), ("fill", 1_000)])
def test_a_querys_positives_are_read_once_however_many_they_are_and_however_its_pairs_lie(
    fewer: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading them anew for each of the 60 pairs would be 1,800 texts; filling goes over all pairs a few times."""
    read: list[str] = []
    monkeypatch.setattr(negatives, "CACHED", 8)
    monkeypatch.setattr(negatives, "shingles", lambda text: read.append(text) or shingles(text))
    asked = [("what is it" if n % 2 else "who is it", n) for n in range(60)]  # by turns
    others = {"drop": [0.9, 0.8], "fill": [0.1] * 400}[fewer]  # the first of all, or below the window of ranks
    found, _ = mined([[0.5] * 60 + others] * 60, asked, relative_margin=None, ranks=[1, 2], fewer=fewer)
    assert all(len(ids) == 2 for ids in found)
    assert 60 <= len(read) <= most


@pytest.mark.parametrize("said", [{"exclude_note": True}, {"ranks": [1, 2], "fewer": "fill"}])
def test_the_notes_of_all_positives_of_the_query_are_left_out(said: dict[str, Any]) -> None:
    notes, scores = ["n0", "n1", "n0", "n1", "n4", "n5"], [0.9, 0.8, 0.5, 0.4, 0.3, 0.2]
    found, _ = mined([scores] * 2, [("q", 0), ("q", 1)], notes=notes, **said)
    assert [sorted(ids) for ids in found] == [[4, 5], [4, 5]]


def test_another_querys_answer_may_be_a_negative() -> None:
    scores = [0.9, 0.5, 0.4, 0.3]
    assert mined([scores, scores[::-1]], [("what", 0), ("how", 3)])[0] == [[1, 2], [2, 1]]


def test_the_positives_note_can_be_left_out() -> None:
    notes, scores = ["n0", "n0", "n2", "n3"], [[0.9, 0.5, 0.4, 0.3]]
    assert mined(scores, notes=notes)[0] == [[1, 2]]
    assert mined(scores, notes=notes, exclude_note=True)[0] == [[2, 3]]


def test_a_row_is_filled_from_below_the_margins_and_from_other_notes_the_same_way_every_time() -> None:
    said: dict[str, Any] = {"ranks": [1, 2], "fewer": "fill", "notes": ["n0", "n1", "n2", "n3", "n0", "n5", "n6"]}
    ids, pools = mined([[0.5, 0.9, 0.8, 0.7, 0.3, 0.2, 0.1]], **said)
    assert sorted(ids[0]) == [5, 6]  # 1 to 3 beat the positive, 4 is of its note
    assert pools.ranks[0].tolist() == [0, 0]
    assert mined([[0.5, 0.9, 0.8, 0.7, 0.3, 0.2, 0.1]], **said)[0] == ids


def test_a_row_that_cannot_be_filled_below_the_margin_stays_short() -> None:
    assert mined([[0.5, 0.9, 0.8, 0.7, 0.3]], ranks=[1, 2], fewer="fill")[0] == [[4]]


def drawn(count: int, sampling: str, key: str = "row", seed: int = 42, negatives: int = 4) -> list[int]:
    options = Mine.model_validate({"retriever": "a/b", "sampling": sampling, "seed": seed, "negatives": negatives})
    return order(np.arange(count), options, key).tolist()


def test_top_takes_the_first_ranks_and_spread_takes_them_evenly() -> None:
    assert drawn(9, "top") == list(range(9))
    assert drawn(10, "spread")[:4] == [0, 3, 6, 9]
    assert drawn(10, "spread")[4:8] == [1, 4, 5, 8]  # spares lie evenly too
    assert drawn(3, "spread") == [0, 1, 2]
    assert drawn(0, "spread") == []


@pytest.mark.parametrize("sampling", ["top", "random", "spread"])
@given(count=st.integers(0, 60), negatives=st.integers(1, 9))
def test_every_sampling_takes_each_candidate_once(sampling: str, count: int, negatives: int) -> None:
    assert sorted(drawn(count, sampling, negatives=negatives)) == list(range(count))


def test_random_depends_on_the_row_and_the_seed_alone() -> None:
    assert drawn(30, "random") == drawn(30, "random")
    assert len({tuple(drawn(30, "random", key=key, seed=seed)) for key in "ab" for seed in (1, 2)}) == 4


def test_a_rows_random_negatives_do_not_change_with_the_rows_around_it() -> None:
    scores = np.linspace(0.9, 0.1, 30).tolist()
    alone, _ = mined([scores], sampling="random")
    among, _ = mined([scores] * 3, [("x", 4), ("q", 0), ("y", 2)], sampling="random")
    assert among[1] == alone[0]


WORDS = st.lists(st.sampled_from(["a", "B", "b.", "c", "", "é"]), max_size=6).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_the_corpus_and_scores_no_rule_is_broken(data: st.DataObject) -> None:
    texts = data.draw(st.lists(WORDS, min_size=1, max_size=14))
    passage = st.integers(0, len(texts) - 1)
    asked = data.draw(st.lists(st.tuples(st.sampled_from(["q", "Q?", "r", ""]), passage), min_size=1, max_size=5))
    cosine = st.floats(-1, 1, width=32)
    scores = data.draw(
        st.lists(st.lists(cosine, min_size=len(texts), max_size=len(texts)), min_size=len(asked), max_size=len(asked))
    )
    queries = [query for query, _ in asked]
    scores = [scores[queries.index(query)] for query in queries]  # equal texts have equal embeddings
    notes = data.draw(st.lists(st.sampled_from("xyz"), min_size=len(texts), max_size=len(texts)))
    first = data.draw(st.integers(1, 5))
    said: dict[str, Any] = {
        "negatives": 2,
        "ranks": [first, first + data.draw(st.integers(1, 9))],
        "relative_margin": data.draw(st.sampled_from([None, 0.5, 0.95, 1.0])),
        "absolute_margin": data.draw(st.sampled_from([None, 0.0, 0.2])),
        "min_score": data.draw(st.sampled_from([None, -0.5])),
        "max_score": data.draw(st.sampled_from([None, 0.7])),
        "near_duplicate": data.draw(st.sampled_from([None, 0.5])),
        "exclude_note": data.draw(st.booleans()),
        "sampling": data.draw(st.sampled_from(["top", "random", "spread"])),
        "fewer": data.draw(st.sampled_from(["drop", "fill"])),
    }
    found, pools = mined(scores, asked, texts, notes, splits=[n % 2 for n in range(len(asked))], **said)
    table = np.array(scores, np.float32)
    for row, ((query, positive), ids) in enumerate(zip(asked, found, strict=True)):
        positives = [p for q, p in asked if fold(q) == fold(query)]
        answers = {fold(texts[p]) for p in positives}
        own = table[row, positive]
        ranks = dict(zip(np.argsort(-table[row], kind="stable").tolist(), range(1, 99), strict=False))
        assert len({fold(texts[i]) for i in ids}) == len(ids) <= 2
        for place, i in enumerate(ids):
            score, rank = table[row, i], pools.ranks[row, place]
            assert fold(texts[i]) not in answers
            assert pools.scores[row, place] == score
            assert rank in (0, ranks[i])
            assert rank == 0 or said["ranks"][0] <= rank <= said["ranks"][1]
            assert rank or said["fewer"] == "fill"
            assert notes[i] not in {notes[p] for p in positives} or not (said["exclude_note"] or rank == 0)
            assert said["relative_margin"] is None or score < own - (1 - said["relative_margin"]) * abs(own) + 1e-6
            assert said["absolute_margin"] is None or score <= own - said["absolute_margin"] + 1e-6
            assert score >= (-1 if said["min_score"] is None else said["min_score"])
            assert score <= (1 if said["max_score"] is None else said["max_score"])
            for p in positives if said["near_duplicate"] else []:
                ours, theirs = shingles(texts[p]), shingles(texts[i])
                assert len(ours & theirs) < 0.5 * len(ours | theirs)
