"""Tiny random models of several kinds, and a finished run to export."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from medembed import stages
from medembed.recipe import ModelRecipe
from medembed.run import Run
from tests.evaluate.runs import model_recipe, trained
from tests.fixtures.beir import write_beir

KINDS = ("bert-mean", "bert-cls-prompts", "mpnet-mean", "modernbert-mean", "bert-mean-dense")


@pytest.fixture(scope="session")
def kinds(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models by what is particular about them: backbone, pooling, prompts, a layer behind the pooling."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
    from transformers import AutoTokenizer, ModernBertConfig, ModernBertModel, MPNetConfig, MPNetModel

    folder = tmp_path_factory.mktemp("kinds")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(1)
    others = {
        "mpnet": MPNetModel(MPNetConfig(**sizes, intermediate_size=64, max_position_embeddings=128)),
        "modernbert": ModernBertModel(
            ModernBertConfig(
                **sizes, intermediate_size=64, max_position_embeddings=128, local_attention=8, pad_token_id=0
            )
        ),
    }
    for name, backbone in others.items():
        backbone.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    backbones = {name: str(folder / name) for name in others} | {"bert": str(tiny_model)}

    def save(kind: str, *, pooling: str, behind: list[Any], **said: Any) -> Path:
        transformer = Transformer(backbones[kind.partition("-")[0]], max_seq_length=64)
        modules = [transformer, Pooling(32, pooling_mode=pooling), *behind]
        SentenceTransformer(modules=modules, device="cpu", **said).save(str(folder / kind), create_model_card=False)
        return folder / kind

    prompts = {"query": "which follow up: ", "document": ""}
    return {
        "bert-mean": tiny_model,
        "bert-cls-prompts": save("bert-cls-prompts", pooling="cls", behind=[Normalize()], prompts=prompts),
        "mpnet-mean": save("mpnet-mean", pooling="mean", behind=[]),
        "modernbert-mean": save("modernbert-mean", pooling="mean", behind=[Normalize()]),
        "bert-mean-dense": save("bert-mean-dense", pooling="mean", behind=[Dense(32, 16), Normalize()]),
    }


def exporting(recipe: ModelRecipe, **export: Any) -> ModelRecipe:
    return ModelRecipe.model_validate(recipe.model_dump(mode="json") | {"export": export})


@pytest.fixture(scope="session")
def evaluated_once(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelRecipe, Path]:
    folder = tmp_path_factory.mktemp("evaluated")
    recipe = model_recipe(tiny_model, [str(write_beir(folder / "small"))], quantised=[])
    run = trained(recipe, folder / "run", tiny_model)
    stages.perform("evaluate", recipe, run)
    return recipe, run.folder


@pytest.fixture
def evaluated(evaluated_once: tuple[ModelRecipe, Path], tmp_path: Path) -> tuple[ModelRecipe, Run]:
    """A recipe with a local task, and a run folder where its model was trained and evaluated."""
    recipe, folder = evaluated_once
    return recipe, Run(recipe, Path(shutil.copytree(folder, tmp_path / "run")))


@pytest.fixture(scope="session")
def exported_once(
    evaluated_once: tuple[ModelRecipe, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[ModelRecipe, Path]:
    before, folder = evaluated_once
    recipe = exporting(before, formats=["onnx", "onnx-int8"], cosine=1.0)
    run = Run(recipe, Path(shutil.copytree(folder, tmp_path_factory.mktemp("exported") / "run")))
    stages.perform("export", recipe, run)
    return recipe, run.folder


@pytest.fixture
def exported(exported_once: tuple[ModelRecipe, Path], tmp_path: Path) -> tuple[ModelRecipe, Run]:
    """The same with its exports. No int8 comes as close as this recipe asks."""
    recipe, folder = exported_once
    return recipe, Run(recipe, Path(shutil.copytree(folder, tmp_path / "run")))
