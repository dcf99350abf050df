"""A dataset recipe of labelled pairs, mined with real (tiny, random) models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medembed import stages
from medembed.recipe import DatasetRecipe
from medembed.run import Record, Run

Mined = Callable[..., tuple[Record, Run]]


@pytest.fixture
def mine(tmp_path: Path, tiny_model: Path) -> Mined:
    """Curate and mine `passages` pairs in the folder `name`; other arguments are settings of `mine`."""

    def mine(name: str = "run", *, passages: int = 30, **said: Any) -> tuple[Record, Run]:
        recipe = recipe_of(tmp_path, tiny_model, passages, **said)
        run = Run(recipe, tmp_path / name)
        stages.perform("curate", recipe, run)
        return stages.perform("mine", recipe, run), run

    return mine


def recipe_of(folder: Path, model: Path, passages: int = 30, **said: Any) -> DatasetRecipe:
    rows = [{"query": f"what is sign {n}", "positive": f"sign {n} of disease {n * n}"} for n in range(passages)]
    source = write(folder / "pairs.jsonl", rows)
    options = {"retriever": str(model), "negatives": 2, "fewer": "fill"} | said
    return DatasetRecipe.model_validate(
        {
            "kind": "dataset",
            "name": "pairs",
            "pairs": [{"source": source, "license": "mit"}],
            "curate": ["duplicates"],
            "split": {"dev": 0.3},
            "mine": options,
            "publish": {"folder": "x"},
        }
    )


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def tiny_reranker(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_reranker(tiny_model, tmp_path_factory.mktemp("reranker"))


def make_tiny_reranker(tiny_model: Path, folder: Path, outputs: int = 1) -> Path:
    """A random cross-encoder with the tiny model's words; its scores are spread wide enough to tell texts apart."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model.parent / "backbone")
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        num_labels=outputs,
    )
    model = BertForSequenceClassification(config)
    model.classifier.weight.data.mul_(100)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
