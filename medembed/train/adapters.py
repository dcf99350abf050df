"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685): a model in; the same one, of which only small matrices are trained.

They stand on every linear layer of the backbone, and are added to its weights at the end: what is saved is a plain model. Of a
model of late interaction the projection is trained, too.
"""

import importlib.util
from typing import TYPE_CHECKING

import torch

from medembed import models
from medembed.errors import InputError
from medembed.recipe import Lora, Model, Train

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer


def check(train: Train) -> None:
    """
    Raises:
        InputError: adapters are asked for, and the package for them is not installed.
    """
    if train.lora and importlib.util.find_spec("peft") is None:
        raise InputError.of("needs the package peft", "train.lora", "Install it: `pip install 'medembed[lora]'`.")


def add(model: "SentenceTransformer | MultiVectorEncoder", base: Model, lora: Lora, seed: int) -> None:
    """Freeze the backbone of `model`, which is `base`, and put adapters beside its linear layers: everywhere the same ones."""
    from peft import LoraConfig

    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules="all-linear")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model.add_adapter(config)
    # A checkpoint holds the adapters alone and names what they adapt: this version of it, not the Hub's latest.
    model.transformers_model.peft_config["default"].base_model_name_or_path = str(models.folder_of(base))


def merged(model: "SentenceTransformer | MultiVectorEncoder") -> dict[str, torch.Tensor]:
    """The weights of `model` with its adapters in them, by their plain names."""
    models.merge_adapters(model)
    weights: dict[str, torch.Tensor] = model.state_dict()
    return weights
