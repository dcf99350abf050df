"""Encoding with a real (tiny) model: each text once, blocks that are checked before they are believed, the same for any processes."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sentence_transformers import SentenceTransformer

from medembed import stages
from medembed.errors import RunError
from medembed.recipe import DatasetRecipe
from medembed.retrieval import embeddings
from medembed.retrieval.embeddings import Embeddings, encode
from medembed.run import Run
from tests.fixtures.models import WORDS, encoded_by
from tests.mine.conftest import make_tiny_reranker

TEXTS = [" ".join(WORDS[n % 40 : n % 40 + n % 13 + 1]) + f" {n}" for n in range(60)]


@pytest.fixture
def model(tiny_model: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model), device="cpu")


@pytest.fixture
def encoded(model: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Embeddings]:
    monkeypatch.setattr(embeddings, "BLOCK", 16)
    return lambda texts=TEXTS, revision="r1", side="document": encode(model, revision, texts, side, tmp_path, 8)


@pytest.fixture
def asked(model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the model is given."""
    return encoded_by(model, monkeypatch)


def test_rows_are_the_models_embeddings_in_the_order_of_the_texts(
    encoded: Callable[..., Embeddings], model: SentenceTransformer
) -> None:
    texts = [*TEXTS, *TEXTS[:5], ""]
    expected = model.encode_document(texts, normalize_embeddings=True)
    found = encoded(texts)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, atol=0.5 / embeddings.GRID + 1e-6)
    np.testing.assert_array_equal(encoded(pa.chunked_array([texts[:7], texts[7:]])), found)


def test_each_distinct_text_is_encoded_once_and_the_longest_first(
    encoded: Callable[..., Embeddings], asked: list[str]
) -> None:
    encoded([*TEXTS, *reversed(TEXTS)])
    assert sorted(asked) == sorted(TEXTS)
    first = {len(text) for text in asked[: embeddings.BLOCK]}
    assert min(first) >= max(len(text) for text in asked[embeddings.BLOCK :])
    asked.clear()
    encoded(TEXTS[::-1])
    assert asked == []


def test_query_and_document_and_other_weights_never_share_a_block(
    encoded: Callable[..., Embeddings], model: SentenceTransformer, asked: list[str]
) -> None:
    encoded()
    model.prompts = {"query": "", "document": "passage: "}
    prompted = encoded()
    assert len(asked) == 2 * len(TEXTS)
    encoded(revision="r2")
    assert len(asked) == 3 * len(TEXTS)
    assert not np.array_equal(prompted, encoded(side="query"))


@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped", "overwritten", "exchanged"])
def test_a_damaged_block_is_noticed_and_made_again(
    damage: str, encoded: Callable[..., Embeddings], asked: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = np.array(encoded())
    asked.clear()
    first, second = sorted(tmp_path.glob("*.f16"))[:2]
    content = first.read_bytes()
    first.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "emptied": b"",
            "flipped": content[:9] + bytes([content[9] ^ 1]) + content[10:],
            "overwritten": b"\x00" * len(content),
            "exchanged": second.read_bytes(),
        }[damage]
    )
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(encoded(), whole)
    assert 0 < len(asked) <= 16
    assert f"{first}: a damaged block of a model's work; it is made again" in caplog.messages
    assert first.read_bytes() == content


def test_numbers_that_are_none_are_told_and_not_kept(
    encoded: Callable[..., Embeddings], model: SentenceTransformer, tmp_path: Path
) -> None:
    next(model.parameters()).data.fill_(float("nan"))
    with pytest.raises(RunError, match="not finite"):
        encoded()
    assert not list(tmp_path.iterdir())


def test_odd_texts_are_encoded_like_others(encoded: Callable[..., Embeddings]) -> None:
    found = encoded(["", " ", "pain " * 20_000, "\x00", "pain"] * 2)
    np.testing.assert_allclose(np.linalg.norm(found.astype(np.float32), axis=1), 1, atol=2e-3)
    np.testing.assert_array_equal(found[:5], found[5:])
    assert len(np.unique(encoded(["fever"] * 50), axis=0)) == 1


def test_no_texts_give_no_rows(encoded: Callable[..., Embeddings]) -> None:
    assert encoded([]).shape == (0, 32)


# ---- several processes -----------------------------------------------------------------------------------------------


def recipe_of_pairs(folder: Path, retriever: Path, teacher: Path | None = None) -> DatasetRecipe:
    rows = [{"query": f"{text}?", "positive": f"{text} is a sign of {text[::-1]}"} for text in TEXTS * 80]
    rows = [{key: f"{text} {n}" for key, text in row.items()} for n, row in enumerate(rows)]  # 4,800: three blocks
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    said = {
        "kind": "dataset",
        "name": "pairs",
        "pairs": [{"source": str(folder / "pairs.jsonl"), "license": "mit"}],
        "mine": {"retriever": str(retriever), "negatives": 2, "relative_margin": None}
        | ({"teacher": {"model": str(teacher)}} if teacher else {}),
        "publish": {"folder": "x"},
    }
    (folder / "recipe.yaml").write_text(json.dumps(said), encoding="utf-8")
    return DatasetRecipe.model_validate(said)


def launch(folder: Path, processes: int) -> subprocess.CompletedProcess[str]:
    several = ["--multi_gpu"] if processes > 1 else []
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", *several, f"--num_processes={processes}"]
    command = [*launcher, "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "-m", "medembed.mine"]
    return subprocess.run(
        [*command, str(folder / "recipe.yaml"), "--run-dir", str(folder / f"run-{processes}")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.long
def test_two_processes_give_the_blocks_and_triplets_of_one(tiny_model: Path, tmp_path: Path) -> None:
    recipe = recipe_of_pairs(tmp_path, tiny_model, make_tiny_reranker(tiny_model, tmp_path / "teacher"))
    made = {}
    for processes in (1, 2):
        run = Run(recipe, tmp_path / f"run-{processes}")
        stages.perform("curate", recipe, run)
        done = launch(tmp_path, processes)
        assert done.returncode == 0, done.stderr
        record = run.record("mine")
        assert record is not None
        blocks = {path.name: path.read_bytes() for path in run.path("embeddings").iterdir()}
        made[processes] = (record.outputs, blocks)
    assert sum(name.endswith(".f16") for name in made[1][1]) == 6
    assert sum(name.endswith(".logits") for name in made[1][1]) > 10
    assert made[1] == made[2]
    assert launch(tmp_path, 2).stdout.count("(done before") == 1


@pytest.mark.slow
def test_a_fault_that_any_process_meets_is_told_once(tiny_model: Path, tmp_path: Path) -> None:
    model = SentenceTransformer(str(tiny_model), device="cpu")
    next(model.parameters()).data.fill_(float("nan"))
    model.save(str(tmp_path / "broken"))
    recipe = recipe_of_pairs(tmp_path, tmp_path / "broken")
    stages.perform("curate", recipe, Run(recipe, tmp_path / "run-2"))
    done = launch(tmp_path, 2)
    assert done.returncode != 0
    assert done.stderr.count("error: the retriever gives embeddings that are not finite") == 1
