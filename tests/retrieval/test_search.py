"""Search and ranks against a plain sort of all scores: exact, in any tiling, ties in the order of rows, by numpy, torch and FAISS."""

import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medembed.errors import InputError, RunError
from medembed.retrieval import approximate
from medembed.retrieval import search as module
from medembed.retrieval.embeddings import Embeddings, on_grid
from medembed.retrieval.fusion import reciprocal_ranks
from medembed.retrieval.search import ranks_of, scores_at, search


def unit(rows: int, dimensions: int = 24, seed: int = 0, distinct: int | None = None) -> Embeddings:
    """Random embeddings, of which only some are `distinct`."""
    draw = np.random.default_rng(seed)
    made = on_grid(draw.standard_normal((distinct or rows, dimensions)).astype(np.float32))
    return made[draw.integers(0, len(made), rows)] if distinct else made


def by_sorting(queries: Embeddings, passages: Embeddings, top_k: int) -> tuple[Any, Any]:
    """The definition: all scores in double precision, sorted by score, then by row."""
    scores = queries.astype(np.float64) @ passages.astype(np.float64).T
    order = np.lexsort((np.broadcast_to(np.arange(len(passages)), scores.shape), -scores))[:, :top_k]
    return order, np.take_along_axis(scores, order, 1)


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 60)),
    top_k=st.integers(1, 70),
    distinct=st.integers(1, 30),
    tile=st.tuples(st.integers(1, 5), st.integers(1, 20)),
    by_torch=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_the_nearest_are_those_of_a_full_sort_in_any_tiling_with_any_ties(
    shape: tuple[int, int], top_k: int, distinct: int, tile: tuple[int, int], by_torch: bool
) -> None:
    queries, passages = unit(shape[0], seed=1), unit(shape[1], seed=2, distinct=distinct)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "QUERIES", tile[0])
        patch.setattr(module, "PASSAGES", tile[1])
        if by_torch:
            patch.setattr(module, "_Tile", partial(module._TorchTile, device="cpu"))
        ids, scores = search(queries, passages, top_k)
    expected, cosines = by_sorting(queries, passages, top_k)
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(scores, cosines)


@pytest.mark.parametrize("by_torch", [False, True])
def test_a_rank_counts_the_passages_that_score_higher_and_agrees_with_the_search(
    by_torch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PASSAGES", 64)
    monkeypatch.setattr(module, "QUERIES", 7)
    if by_torch:
        monkeypatch.setattr(module, "_Tile", partial(module._TorchTile, device="cpu"))
    queries, passages = unit(30, seed=3), unit(300, seed=4, distinct=100)
    ids, scores = search(queries, passages, 300)
    for place in (0, 5, 299):
        ranks, own = ranks_of(queries, passages, ids[:, place])
        np.testing.assert_array_equal(own, scores[:, place])
        np.testing.assert_array_equal(ranks, 1 + (scores > own[:, None]).sum(axis=1))


def test_scores_are_the_same_bits_whatever_adds_them_up() -> None:
    queries, passages = unit(50, dimensions=384, seed=7).astype(np.float32), unit(50, dimensions=384, seed=8)
    passages[:50] = queries  # a cosine of 1 is the hardest case
    exact = queries.astype(np.float64) @ passages.astype(np.float64).T
    backwards = queries[:, ::-1] @ np.ascontiguousarray(passages[:, ::-1]).astype(np.float32).T
    np.testing.assert_array_equal(backwards, exact)
    np.testing.assert_array_equal(scores_at(queries, passages, np.tile(np.arange(50), (50, 1))), exact)


def test_a_row_that_is_none_scores_minus_infinity() -> None:
    queries, passages = unit(2), unit(3, seed=9)
    found = scores_at(queries, passages, np.array([[0, -1], [-1, 2]]))
    assert np.isneginf(found).tolist() == [[False, True], [True, False]]


def test_no_queries_and_one_passage_are_no_special_cases() -> None:
    ids, scores = search(unit(0), unit(5), 3)
    assert ids.shape == scores.shape == (0, 3)
    assert ranks_of(unit(0), unit(5), np.empty(0, np.int64))[0].shape == (0,)
    assert search(unit(2), unit(1, seed=1), 3)[0].tolist() == [[0], [0]]


def test_all_passages_alike_come_in_the_order_of_their_rows() -> None:
    ids, _ = search(unit(3), unit(20_000, distinct=1), 5)
    assert ids.tolist() == [[0, 1, 2, 3, 4]] * 3


def test_a_model_that_gives_no_numbers_is_told() -> None:
    with pytest.raises(RunError, match="not finite"):
        on_grid(np.array([[np.nan, 1]], np.float32))


# ---- beyond `exact_up_to` --------------------------------------------------------------------------------------------


def clustered(rows: int, seed: int) -> Embeddings:
    centres = np.random.default_rng(0).standard_normal((50, 48))
    draw = np.random.default_rng(seed)
    made = centres[draw.integers(0, 50, rows)] + draw.standard_normal((rows, 48))
    return on_grid(made.astype(np.float32))


def test_the_index_finds_nearly_all_scores_them_alike_and_is_the_same_again() -> None:
    pytest.importorskip("faiss")
    queries, passages = clustered(100, 1), clustered(8000, 2)
    ids, _ = search(queries, passages, 10)
    assert search(queries, passages, 10, exact_up_to=8000)[0].tolist() == ids.tolist()
    found, theirs = search(queries, passages, 10, exact_up_to=7999)
    recall = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(ids, found, strict=True)])
    assert recall >= 0.95
    np.testing.assert_array_equal(theirs, scores_at(queries, passages, found))
    assert (np.diff(theirs, axis=1) <= 0).all()
    again = search(queries, passages, 10, exact_up_to=7999)
    assert again[0].tolist() == found.tolist()


def test_where_the_lists_hold_fewer_the_index_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(approximate, "PROBES", 1)
    passages = clustered(400, 3)
    ids, scores = approximate.Index(passages).search(clustered(5, 4), 400)
    assert (ids == -1).any()
    assert (np.isneginf(scores) == (ids == -1)).all()
    for row in ids:
        assert len(set(row[row >= 0])) == (row >= 0).sum()


def test_without_faiss_the_mend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"medembed\[faiss\]"):
        search(unit(1), unit(5), 1, exact_up_to=4)


# ---- fusion ----------------------------------------------------------------------------------------------------------


def test_ranks_are_fused_as_the_paper_says() -> None:
    ours, theirs = np.array([[4, 2, 7]]), np.array([[2, 9, -1]])
    nothing = np.zeros((1, 3), np.float32)
    # 2: 1/62 + 1/61; 4: 1/61; 9: 1/62; 7: 1/63
    assert reciprocal_ranks([(ours, nothing), (theirs, nothing)], 5).tolist() == [[2, 4, 9, 7, -1]]


def test_equal_sums_stand_in_the_order_of_their_rows() -> None:
    nothing = np.zeros((1, 2), np.float32)
    assert reciprocal_ranks([(np.array([[8, 3]]), nothing), (np.array([[3, 8]]), nothing)], 1).tolist() == [[3]]
