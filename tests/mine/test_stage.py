"""Mining with a real (tiny) retriever: scores that are true, blocks that are not encoded twice, faults that are told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from medembed import stages
from medembed.errors import InputError, RunError
from medembed.recipe import DatasetRecipe
from medembed.retrieval import embeddings
from medembed.run import Record, Run


def mine(folder: Path, retriever: Path, passages: int = 30, **options: Any) -> tuple[Record, Run]:
    source = folder / "pairs.jsonl"
    rows = [{"query": f"what is sign {n}", "positive": f"sign {n} of disease {n * n}"} for n in range(passages)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = DatasetRecipe.model_validate(
        {
            "kind": "dataset",
            "name": "pairs",
            "pairs": [{"source": str(source), "license": "mit"}],
            "mine": {"retriever": str(retriever), "negatives": 2, "fewer": "fill"} | options,
            "publish": {"folder": "x"},
        }
    )
    run = Run(recipe, folder / "run")
    stages.perform("curate", recipe, run)
    return stages.perform("mine", recipe, run), run


def test_scores_are_the_retrievers_cosines(tiny_model: Path, tmp_path: Path) -> None:
    record, run = mine(tmp_path, tiny_model)
    rows = run.read("mine", "triplets-train").to_pylist()
    assert record.counts["triplets"] == len(rows) >= 5
    model = SentenceTransformer(str(tiny_model), device="cpu")
    for row in rows[:5]:
        query = model.encode_query(row["query"], normalize_embeddings=True)
        texts = [row["positive"], row["negative_1"], row["negative_2"]]
        cosines = model.encode_document(texts, normalize_embeddings=True) @ query
        np.testing.assert_allclose(cosines, [row["positive_score"], *row["negative_scores"]], atol=1e-3)


def test_a_run_that_was_cut_off_encodes_only_the_blocks_that_are_missing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "BLOCK", 10)
    (tmp_path / "whole").mkdir()
    whole, _ = mine(tmp_path / "whole", tiny_model)
    encode_document, blocks = SentenceTransformer.encode_document, []

    def cut_off_at_the_third(model: SentenceTransformer, texts: list[str], **settings: Any) -> Any:
        if len(blocks) == 2:
            raise KeyboardInterrupt
        blocks.append(texts)
        return encode_document(model, texts, **settings)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SentenceTransformer, "encode_document", cut_off_at_the_third)
        mine(tmp_path, tiny_model)
    blocks.clear()
    with monkeypatch.context() as patch:
        patch.setattr(SentenceTransformer, "encode_document", cut_off_at_the_third)
        again, _ = mine(tmp_path, tiny_model)
    assert len(blocks) == 1
    assert again.outputs == whole.outputs


def test_a_corpus_without_enough_passages_is_told(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 passages cannot give 2 negatives"):
        mine(tmp_path, tiny_model, passages=2)


def test_a_retriever_that_gives_no_numbers_is_told(tiny_model: Path, tmp_path: Path) -> None:
    model = SentenceTransformer(str(tiny_model), device="cpu")
    next(model.parameters()).data.fill_(float("nan"))
    model.save(str(tmp_path / "broken"))
    with pytest.raises(RunError, match="not finite"):
        mine(tmp_path, tmp_path / "broken")


def test_a_folder_that_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no model weights"):
        mine(tmp_path, tmp_path / "empty")
