"""Batches on every core: the model's own numbers, the same on any number of cores, for every kind of model."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import MultiVectorEncoder, SentenceTransformer

from medembed.retrieval.batches import CPU_TOKENS, batches, encoded
from tests.evaluate.test_alone import sparse_model
from tests.fixtures.models import WORDS, encoded_by

TEXTS = [" ".join(WORDS[n % 40 : n % 40 + 1 + n % 23]) + f" {n}" for n in range(70)]


@pytest.fixture(autouse=True)
def cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model(tiny_model: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model), device="cpu")


def threads() -> tuple[int, int]:
    """Of torch, in this thread and in one that starts now."""
    with ThreadPoolExecutor(1) as pool:
        return torch.get_num_threads(), pool.submit(torch.get_num_threads).result()


def models(tiny: Path, folder: Path) -> Iterator[Any]:
    from sentence_transformers.sparse_encoder import SparseEncoder

    yield SentenceTransformer(str(tiny), device="cpu", prompts={"query": "fever ", "document": ""})
    yield MultiVectorEncoder(str(tiny), device="cpu")
    yield SparseEncoder(str(sparse_model(folder, tiny)), device="cpu")


def as_arrays(rows: Any) -> list[np.ndarray]:
    dense = (row.to_dense() if isinstance(row, torch.Tensor) and row.is_sparse else row for row in rows)
    return [np.asarray(row) for row in dense]


def test_rows_are_those_of_the_model_and_the_same_on_any_number_of_cores(tiny_model: Path, tmp_path: Path) -> None:
    for model in models(tiny_model, tmp_path):
        for method in ("encode_query", "encode_document"):
            found = as_arrays(encoded(model, method, TEXTS, 8))
            expected = as_arrays(getattr(model, method)(TEXTS))
            for ours, theirs in zip(found, expected, strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-6)
            torch.set_num_threads(1)
            alone = as_arrays(encoded(model, method, TEXTS, 8))
            torch.set_num_threads(3)
            assert [row.tobytes() for row in alone] == [row.tobytes() for row in found]


def test_batches_are_encoded_at_the_same_time_by_one_thread_each_with_one_set_of_weights(model, monkeypatch) -> None:
    together, seen = Barrier(3), []

    def forward(transformer: Any, features: dict[str, Any], **settings: Any) -> Any:
        together.wait(timeout=60)  # the third batch comes while the first two are there
        seen.append((torch.get_num_threads(), next(transformer.parameters()).data_ptr()))
        return plain(transformer, features, **settings)

    plain = type(model[0]).forward
    monkeypatch.setattr(type(model[0]), "forward", forward)
    encoded(model, "encode", TEXTS[:9], 3)
    assert seen == [(1, next(model.parameters()).data_ptr())] * 3
    assert threads() == (3, 3)


def test_what_stops_one_batch_stops_all_and_is_told(model, monkeypatch) -> None:
    texts = encoded_by(model, monkeypatch, stop_at=TEXTS[22])  # the longest of all: in the first batch
    with pytest.raises(KeyboardInterrupt):
        encoded(model, "encode", TEXTS, 2)
    assert len(texts) < len(TEXTS)
    assert threads() == (3, 3)


def test_a_model_without_a_tokenizer_of_the_usual_kind_is_encoded_too(tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import BoW

    model = SentenceTransformer(modules=[BoW(vocab=WORDS)], device="cpu")
    expected = as_arrays(model.encode(TEXTS))
    assert [row.tobytes() for row in as_arrays(encoded(model, "encode", TEXTS, 8))] == [
        row.tobytes() for row in expected
    ]


def test_the_prompt_counts_among_the_tokens_of_a_batch(tiny_model: Path, monkeypatch) -> None:
    model = SentenceTransformer(str(tiny_model), device="cpu", prompts={"query": "fever " * 30, "document": ""})
    shapes = []

    def forward(transformer: Any, features: dict[str, Any], **settings: Any) -> Any:
        shapes.append(features["input_ids"].shape)
        return plain(transformer, features, **settings)

    plain = type(model[0]).forward
    monkeypatch.setattr(type(model[0]), "forward", forward)
    encoded(model, "encode_query", ["pain"] * 200, 512)
    encoded(model, "encode", ["pain"] * 200, 512, prompt="cough " * 12)
    assert max(rows * tokens for rows, tokens in shapes) <= CPU_TOKENS
    assert sum(rows for rows, _ in shapes) == 400 and {tokens for _, tokens in shapes} == {33, 15}


def test_a_model_that_cannot_be_copied_is_encoded_batch_by_batch(model) -> None:
    expected = as_arrays(encoded(model, "encode", TEXTS, 8))
    for held in (Lock(), torch.nn.Parameter(torch.ones(2)) * 2):
        model.held = held
        np.testing.assert_allclose(as_arrays(encoded(model, "encode", TEXTS, 8)), expected, atol=1e-6)
    assert encoded(model, "encode", [], 8) == []


@given(st.lists(st.integers(0, 600), max_size=60), st.integers(1, 33), st.integers(1, 2000))
def test_batches_take_each_text_once_and_stay_within_size_and_budget(lengths, size, budget) -> None:
    made = list(batches(lengths, size, budget))
    assert sorted(i for batch in made for i in batch) == list(range(len(lengths)))
    for batch in made:
        longest = max(lengths[i] for i in batch)
        assert len(batch) <= size
        assert len(batch) == 1 or longest * len(batch) <= budget
