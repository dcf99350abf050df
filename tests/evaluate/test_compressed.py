"""Embeddings cut and quantised: what is found, in how many bytes, against plain computations of the same."""

import faiss
import numpy as np
import pytest

from medembed.evaluate.compressed import Embedded, Form, forms, nearest, quality

GENERATOR = np.random.default_rng(5)


def unit(rows: int, dimensions: int = 64) -> np.ndarray:
    found = GENERATOR.normal(size=(rows, dimensions)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


PASSAGES = unit(300)
QUERIES = PASSAGES[:40] + 0.45 * unit(40)
QUERIES /= np.linalg.norm(QUERIES, axis=1, keepdims=True)


def part(queries: np.ndarray = QUERIES, passages: np.ndarray = PASSAGES, **more: bool) -> Embedded:
    """Query n asks for passage n."""
    return Embedded(
        queries,
        passages,
        [f"q{n}" for n in range(len(queries))],
        [f"d{n}" for n in range(len(passages))],
        {f"q{n}": {f"d{n}": 1} for n in range(len(queries))},
        **more,
    )


def test_each_size_is_measured_in_each_precision_and_bits_twice() -> None:
    found = [(form.dimensions, form.name, form.bytes) for form in forms(384, [128, 384, 512], ["int8", "binary"])]
    assert found == [
        (384, "float32", 1536),
        (384, "int8", 384),
        (384, "binary", 48),
        (384, "binary, rescored", 48),
        (128, "float32", 512),
        (128, "int8", 128),
        (128, "binary", 16),
        (128, "binary, rescored", 16),
    ]
    assert [form.name for form in forms(8, [], [])] == ["float32"]


def test_bits_are_searched_as_faiss_searches_them_by_hamming_distance() -> None:
    index = faiss.IndexBinaryFlat(64)
    index.add(np.packbits(PASSAGES > 0, axis=1))
    distances, _ = index.search(np.packbits(QUERIES > 0, axis=1), 10)
    rows, scores = nearest(QUERIES, PASSAGES, Form(64, "binary"), 10)
    assert np.array_equal((64 - scores) / 2, distances)
    assert np.array_equal(((QUERIES[0] > 0) != (PASSAGES[rows[0]] > 0)).sum(axis=1), distances[0])


def test_int8_is_scored_as_faiss_scores_what_its_own_quantizer_keeps() -> None:
    index = faiss.IndexScalarQuantizer(64, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    index.train(PASSAGES)
    index.add(PASSAGES)
    theirs, _ = index.search(QUERIES, 10)
    _, scores = nearest(QUERIES, PASSAGES, Form(64, "int8"), 10)
    assert np.abs(scores - theirs).max() < 0.02
    exact, _ = nearest(QUERIES, PASSAGES, Form(64, "float32"), 10)
    rows, _ = nearest(QUERIES, PASSAGES, Form(64, "int8"), 10)
    assert (rows == exact).mean() > 0.9


def test_rescoring_ranks_four_times_as_many_by_the_float_query() -> None:
    rows, scores = nearest(QUERIES, PASSAGES, Form(64, "binary", rescored=True), 5)
    found, _ = nearest(QUERIES, PASSAGES, Form(64, "binary"), 20)
    signs = np.where(PASSAGES > 0, 1, -1)
    for query, mine, of_query, candidates in zip(QUERIES, rows, scores, found, strict=True):
        by_hand = sorted(((float(signs[i] @ query), i) for i in candidates), reverse=True)[:5]
        assert of_query == pytest.approx([score for score, _ in by_hand], abs=1e-5)
        assert set(mine) == {i for _, i in by_hand}


def test_quality_falls_with_the_bytes_and_rescoring_gives_some_back() -> None:
    hard = PASSAGES[:200] + 1.7 * unit(200)
    score = {form.name: quality(part(hard), form) for form in forms(64, [], ["int8", "binary"])}
    assert 0.9 < score["float32"] < 1
    assert score["int8"] == pytest.approx(score["float32"], abs=0.02)
    assert score["binary"] < score["binary, rescored"] < score["int8"]


def test_a_cut_embedding_has_unit_length_again_where_length_does_not_count() -> None:
    passages = PASSAGES.copy()
    passages[100:] *= 9  # long ones would win by their length alone
    long = part(passages=passages)
    assert quality(long, Form(32, "float32")) == pytest.approx(quality(part(), Form(32, "float32")))
    as_they_are = part(passages=passages, normalised=False)
    assert quality(as_they_are, Form(32, "float32")) < quality(long, Form(32, "float32"))


def test_first_dimensions_that_say_all_lose_nothing_when_the_rest_is_cut() -> None:
    matryoshka = np.concatenate([PASSAGES, np.zeros_like(PASSAGES)], axis=1)
    queries = np.concatenate([QUERIES, np.zeros_like(QUERIES)], axis=1)
    assert quality(part(queries, matryoshka), Form(64, "float32")) == quality(part(), Form(64, "float32"))


def test_a_query_that_is_a_passage_does_not_find_itself() -> None:
    same = Embedded(
        PASSAGES[:5], PASSAGES, [f"d{n}" for n in range(5)], [f"d{n}" for n in range(300)], {"d0": {"d0": 1}}
    )
    assert quality(same, Form(64, "float32")) == 1
    ignoring = Embedded(same.queries, PASSAGES, same.query_ids, same.passage_ids, same.judgments, True)
    assert quality(ignoring, Form(64, "float32")) == 0


def test_fewer_passages_than_are_looked_for_are_no_trouble() -> None:
    few = part(QUERIES[:3], PASSAGES[:3])
    assert all(quality(few, form) > 0.5 for form in forms(64, [16], ["int8", "binary"]))


def test_dimensions_that_are_no_whole_bytes_are_packed_with_room_left() -> None:
    assert Form(12, "binary").bytes == 2
    rows, scores = nearest(QUERIES[:, :12], PASSAGES[:, :12], Form(12, "binary"), 5)
    assert scores.max() <= 12
    assert rows.shape == (40, 5)
