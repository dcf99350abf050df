"""A model is saved whole: in another process, from another folder and from the Hub it embeds as it did in training."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medembed import models
from medembed.recipe import ModelRecipe
from medembed.run import Run
from medembed.train.saving import save
from medembed.train.trainer import Trained
from tests.fixtures.hub import Hub
from tests.fixtures.models import make_tiny_colbert

TEXTS = ["chest pain, left knee!", "which insulin dose", "no fever and no cough " * 9]

ELSEWHERE = """
import json, sys
from huggingface_hub import HfApi
from medembed import models
from medembed.recipe import Model
from sentence_transformers import MultiVectorEncoder, SentenceTransformer

folder, kind, *texts = sys.argv[1:]
HfApi().create_repo("medembed/it")
commit = HfApi().upload_folder(repo_id="medembed/it", folder_path=folder).oid
plain = {"dense": SentenceTransformer, "late": MultiVectorEncoder}[kind]
loaded = [plain(folder), plain("medembed/it", revision=commit), models.load(Model(model="medembed/it"))]
embedded = [[[e.tolist() for e in side(texts)] for side in (m.encode_query, m.encode_document)] for m in loaded]
print(json.dumps([models.resolve(Model(model="medembed/it")).revision == commit, embedded]))
"""


def trained(folder: Path, base: Path, method: str) -> tuple[Run, Any]:
    """A run with a saved model, whose weights are the base's moved at random, and that model as it was in memory."""
    recipe = ModelRecipe.model_validate(
        {
            "kind": "model",
            "name": "m",
            "base": {"model": str(base), "max_length": 20}
            | ({"prompts": {"query": "what: "}} if method == "dense" else {}),
            "data": {"dataset": "org/set"},
            "train": {"method": method},
            "evaluate": {"tasks": ["NFCorpus"]},
            "publish": {"folder": str(folder / "published")},
        }
    )
    model = models.load(recipe.base, device="cpu", method=recipe.train.method)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    run = Run(recipe, folder / "run")
    save(Trained(model.state_dict(), [1.0]), recipe, run)
    return run, model


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dense", "late-interaction", "colbert"])
def test_a_saved_model_embeds_elsewhere_as_it_does_here(tmp_path: Path, tiny_model: Path, kind: str) -> None:
    base = make_tiny_colbert(tmp_path / "base") if kind == "colbert" else tiny_model
    run, model = trained(tmp_path, base, "dense" if kind == "dense" else "late-interaction")
    moved = shutil.move(run.path("train", "model"), tmp_path / "elsewhere")
    shutil.rmtree(run.folder)
    here = [[e.tolist() for e in side(TEXTS)] for side in (model.encode_query, model.encode_document)]
    command = [sys.executable, "-c", ELSEWHERE, str(moved), "dense" if kind == "dense" else "late", *TEXTS]
    with Hub(tmp_path / "hub") as hub:
        done = subprocess.run(command, env=hub.env(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    same_commit, embedded = json.loads(done.stdout.splitlines()[-1])
    assert same_commit
    for there in embedded:
        for one, other in zip((e for side in here for e in side), (e for side in there for e in side), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
    assert len(here[1][2]) == (32 if kind == "dense" else 20)  # one vector, or one a token of those that are kept


@pytest.mark.parametrize("method, pooling", [("dense", "mean"), ("late-interaction", None)])
def test_it_is_told_what_another_library_has_to_do_alike(
    tmp_path: Path, tiny_model: Path, method: str, pooling: str | None
) -> None:
    run, model = trained(tmp_path, tiny_model, method)
    told = save(Trained(model.state_dict(), [1.0]), run.recipe, run)
    assert told["modules"] == [type(module).__name__ for module in model]
    assert (told["pooling"], told["max_length"]) == (pooling, 20)
    assert told["prompts"] == {"query": "what: " if method == "dense" else "", "document": ""}
    assert told["similarity"] == ("cosine" if method == "dense" else "maxsim")


def test_no_length_of_an_earlier_use_is_left_for_other_libraries_to_cut_at(tiny_model: Path, tmp_path: Path) -> None:
    """fastembed takes the lesser of `max_length` and `model_max_length`; all-MiniLM-L6-v2's own files say 128 and 256."""
    base = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    said = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps(said | {"max_length": 7}))
    run, _ = trained(tmp_path, base, "dense")
    saved = json.loads(run.path("train", "model/tokenizer_config.json").read_text())
    assert (saved.get("max_length"), saved["model_max_length"]) == (None, 20)
