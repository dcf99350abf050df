"""Adapters: only they are trained, a killed run goes on with them, and what is left of them in the end is in the weights."""

import shutil
from pathlib import Path

import pytest
import torch

from medembed import models
from medembed.recipe import Lora, Model
from medembed.recipe_file import load
from medembed.train import adapters, checks, data
from medembed.train.trainer import Trained, fit
from tests.train.conftest import Bench

pytest.importorskip("peft")
LORA = Lora(rank=4, alpha=8, dropout=0.1)


def test_only_adapters_are_trained_and_they_are_the_same_in_every_process(tiny_model: Path) -> None:
    base = Model(model=str(tiny_model))

    def adapted(seed: int) -> dict[str, torch.Tensor]:
        model = models.load(base, device="cpu")
        adapters.add(model, base, LORA, seed)
        return {name: it.detach() for name, it in model.named_parameters() if it.requires_grad}

    torch.manual_seed(1)
    one, state = adapted(0), torch.random.get_rng_state()
    other = adapted(0)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert one and all("lora_" in name for name in one)
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in one} == {"query", "key", "value", "dense"}
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not all(torch.equal(one[name], tensor) for name, tensor in adapted(1).items())


def test_what_adapters_learned_is_in_the_weights_in_the_end(tiny_model: Path) -> None:
    base = Model(model=str(tiny_model))
    model = models.load(base, device="cpu")
    names = model.state_dict().keys()
    adapters.add(model, base, LORA, 0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    before = model.encode(["chest pain"])
    weights = adapters.merged(model)
    assert weights.keys() == names
    plain = models.load(base, device="cpu")
    assert abs(plain.encode(["chest pain"]) - before).max() > 1e-3
    plain.load_state_dict(weights)
    assert abs(plain.encode(["chest pain"]) - before).max() < 1e-6


def test_a_run_with_adapters_goes_on_from_a_checkpoint_to_the_same_weights(bench: Bench, tmp_path: Path) -> None:
    whole = trained(bench, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "resumed" / "checkpoint-2")
    resumed = trained(bench, tmp_path / "resumed", tmp_path / "resumed" / "checkpoint-2")
    assert resumed.losses == whole.losses
    assert all(torch.equal(resumed.weights[name], tensor) for name, tensor in whole.weights.items())
    checkpoint = models.load(Model(model=str(tmp_path / "whole" / "checkpoint-4")), device="cpu").state_dict()
    assert all(torch.equal(checkpoint[name], tensor) for name, tensor in whole.weights.items())
    base = models.load(load(bench.recipe).base, device="cpu").state_dict()
    assert not all(torch.equal(base[name], tensor) for name, tensor in whole.weights.items())


def trained(bench: Bench, folder: Path, resume: Path | None = None) -> Trained:
    recipe = load(bench.recipe, ("train.lora={rank: 4, dropout: 0.1}", "train.max_steps=4", "train.save_steps=2"))
    rows = data.read(data.find(recipe.data, bench.run("unused")), recipe.data, 1, 0)
    model = models.load(recipe.base, device="cpu")
    adapters.add(model, recipe.base, recipe.train.lora, recipe.train.seed)
    result = fit(model, rows, checks.batches_of(rows, recipe.train), recipe.train, folder, resume)
    result.weights = adapters.merged(model)
    return result
