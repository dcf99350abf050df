"""Embeddings that are kept: the model's own numbers, each text encoded once, whatever was killed or damaged in between."""

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from medembed.evaluate import vectors
from medembed.evaluate.vectors import Remembering
from tests.fixtures.models import WORDS, encoded_by

TEXTS = [" ".join(WORDS[n : n + 1 + n % 17]) for n in range(60)]


@pytest.fixture
def model(tiny_model: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model), device="cpu")


def kept(model: SentenceTransformer, cache: Path) -> Remembering:
    return Remembering(model, ["tiny", "0" * 40], None, cache, 4)


def test_embeddings_are_those_of_the_model_in_the_order_of_the_texts(model, tmp_path) -> None:
    texts = [*TEXTS[::-1], *TEXTS[:7]]
    for _ in range(2):  # made, and read
        found = kept(model, tmp_path).encode_document(texts, show_progress_bar=False)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, model.encode_document(texts), atol=1e-6)


def test_a_text_is_encoded_once_whatever_else_is_asked_with_it(model, tmp_path, monkeypatch) -> None:
    texts = encoded_by(model, monkeypatch)
    kept(model, tmp_path).encode_document(TEXTS[:40] + TEXTS[:40])
    assert sorted(texts) == sorted(TEXTS[:40])
    kept(model, tmp_path).encode_document(TEXTS)
    assert sorted(texts) == sorted(TEXTS)


def test_another_side_prompt_or_model_is_another_embedding(model, tmp_path, monkeypatch) -> None:
    model.prompts = {"query": "fever ", "document": ""}
    ours = kept(model, tmp_path)
    as_document, as_query = ours.encode_document(TEXTS), ours.encode_query(TEXTS)
    asked_otherwise = ours.encode_query(TEXTS, prompt="stroke ")
    assert not np.allclose(as_document, as_query) and not np.allclose(as_query, asked_otherwise)
    np.testing.assert_allclose(asked_otherwise, model.encode_query(TEXTS, prompt="stroke "), atol=1e-6)
    texts = encoded_by(model, monkeypatch)
    Remembering(model, ["tiny", "1" * 40], None, tmp_path, 4).encode_document(TEXTS)
    assert sorted(texts) == sorted(TEXTS)


def test_a_killed_encoding_goes_on_and_ends_in_the_same_bytes(model, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(vectors, "BLOCK", 16)
    undisturbed = kept(model, tmp_path / "undisturbed").encode_document(TEXTS)
    written: list[Path] = []

    def dying(path: Path, body: bytes) -> None:
        written.append(path)
        if len(written) == 4:  # the second block's embeddings stand, its keys do not
            raise KeyboardInterrupt
        write(path, body)

    write = vectors.kept.write
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(vectors.kept, "write", dying)
        kept(model, tmp_path / "killed").encode_document(TEXTS)
    texts = encoded_by(model, monkeypatch)
    after = kept(model, tmp_path / "killed").encode_document(TEXTS)
    assert len(texts) == len(TEXTS) - 16
    assert after.tobytes() == undisturbed.tobytes()


@pytest.mark.parametrize("suffix", ["keys", "rows"])
def test_a_damaged_block_is_made_again(model, tmp_path, monkeypatch, suffix) -> None:
    first = kept(model, tmp_path).encode_document(TEXTS)
    (path,) = tmp_path.glob(f"*/*.{suffix}")
    path.write_bytes(path.read_bytes()[:-3] + b"...")
    texts = encoded_by(model, monkeypatch)
    assert kept(model, tmp_path).encode_document(TEXTS).tobytes() == first.tobytes()
    assert sorted(texts) == sorted(TEXTS)
