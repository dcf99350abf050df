"""What is measured → what mteb measures: any embedding model of sentence-transformers, models of mteb's registry, BM25.

A model is given to mteb under the name and revision that it was resolved to, and with embeddings that are kept (`vectors`). Models of
mteb's registry come with its prompts, all others with those saved in them. No model's own code is run unless that is allowed.
"""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medembed import models
from medembed.errors import InputError
from medembed.evaluate.endpoints import UNSTATED, Elsewhere, EndpointModel
from medembed.evaluate.lineage import by_manifest, by_registry
from medembed.evaluate.vectors import Remembering
from medembed.evaluate.zero_shot import States
from medembed.models import Resolved
from medembed.provenance import PROVENANCE
from medembed.recipe import Endpoint, Model, is_local
from medembed.rows import content_id
from medembed.run import sha256

if TYPE_CHECKING:
    from mteb.models import ModelMeta

BM25 = "bm25"
_ALLOW = "`medembed evaluate --model … --allow-remote-code` runs it: look at it first, at this revision, and trust who wrote it."


@dataclass(frozen=True)
class Named:
    """A model as a recipe names it, loaded when there is something to encode."""

    model: Model
    allow_remote_code: bool = False

    @property
    def settings(self) -> list[Any]:
        """What decides an embedding and is not in the revision, as JSON can say it."""
        folder = Path(self.model.model) if is_local(self.model.model) else None
        files = [content_id(*map(sha256, _settings_files(folder)))] if folder else []
        return [self.model.max_length, self.model.prompts, *files]

    def load(self) -> Any:
        return load(self.model, allow_remote_code=self.allow_remote_code)

    def encoder(self) -> Any:
        """The model of sentence-transformers, as a process that only encodes needs it."""
        return self.load()


@dataclass(frozen=True)
class Registered:
    """A model of mteb's registry at a revision: `load` gives it as mteb wraps it, with mteb's prompts."""

    meta: "ModelMeta"

    @property
    def settings(self) -> list[Any]:
        return ["registry of mteb", version("mteb")]

    def load(self) -> Any:
        """
        Raises:
            InputError: it cannot be loaded, or needs a package that is not installed.
        """
        try:
            return self.meta.load_model()
        except (ImportError, NotImplementedError, OSError, ValueError, KeyError) as error:
            first_line = str(error).strip().partition("\n")[0] or type(error).__name__
            raise InputError.of(f"cannot be loaded as mteb has it: {first_line}", str(self.meta.name)) from error

    def encoder(self) -> Any:
        return self.load().model


class Ranker:
    """BM25 with the search interface of mteb: what every embedding model has to beat."""

    resolved = Resolved("medembed/bm25", f"bm25s-{version('bm25s')}", "")
    settings: tuple[Any, ...] = ()

    @cached_property
    def mteb_model_meta(self) -> "ModelMeta":
        from mteb.models import ModelMeta

        named = {"name": self.resolved.name, "revision": self.resolved.revision, "model_type": ["sparse"]}
        return ModelMeta.create_empty(overwrites=named)

    def index(self, corpus: Any, *, task_metadata: Any, **_: Any) -> None:
        from mteb.types import PromptType

        from medembed.retrieval import bm25

        self._ids = list(corpus["id"])
        self._index = bm25.BM25(_texts(corpus, task_metadata, PromptType.document))

    def search(self, queries: Any, *, task_metadata: Any, top_k: int, top_ranked: Any = None, **_: Any) -> Any:
        """query id → passage id → score, of the passages that share a word with the query."""
        from mteb.types import PromptType

        texts, found = list(_texts(queries, task_metadata, PromptType.query)), {}
        for query_id, text in zip(queries["id"], texts, strict=True):
            rows, scores = self._index.search([text], len(self._ids) if top_ranked else top_k)
            ranking = {self._ids[i]: float(score) for i, score in zip(rows[0], scores[0], strict=True) if i >= 0}
            kept = ranking if top_ranked is None else {i: ranking.get(i, 0.0) for i in top_ranked[query_id]}
            found[query_id] = kept
        return found


def find(
    name: str, *, allow_remote_code: bool, batch_size: int = 32
) -> tuple[Named | Registered | Ranker | Elsewhere, Resolved]:
    """What `--model` names: `bm25`, a local folder, an endpoint, or a Hub id with `@revision` or without; not loaded yet.

    An endpoint is a URL, with `#NAME` of the model where it serves several; `batch_size`: texts in a request to it.

    Raises:
        InputError: no such model or revision, or one that needs code of its own.
    """
    if name == BM25:
        return Ranker(), Ranker.resolved
    if re.match("https?://", name):
        try:
            url, _, model = name.partition("#")
            served = Elsewhere(Endpoint(endpoint=url, model=model or None), batch_size)
        except ValueError as error:
            mend = "An endpoint is a URL such as http://localhost:8080; keys come from the environment."
            raise InputError.of("is no URL of an endpoint", "--model", mend) from error
        return served, served.encoder().resolved
    if is_local(name):
        if not Path(name).is_dir():
            raise InputError.of("there is no such folder", name)
        return _ours(Model(model=name), allow_remote_code=allow_remote_code)
    name, _, revision = name.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        mend = "A model is `bm25`, a folder (./ or /), an endpoint's URL, or org/name[@revision] on the Hub."
        raise InputError.of(f"{name!r} names no model", "--model", mend)
    from mteb.models.model_implementations import MODEL_REGISTRY

    if (meta := MODEL_REGISTRY.get(name)) is None:
        return _ours(Model(model=name, revision=revision or None), allow_remote_code=allow_remote_code)
    if meta.loader_kwargs.get("trust_remote_code") and not allow_remote_code:
        raise InputError.of("brings code of its own, which would run on this machine", name, _ALLOW)
    at_revision = Model(model=name, revision=revision or meta.revision)
    resolved = Resolved(name, models.resolve(at_revision).revision, name)
    _refuse_own_code(at_revision, resolved, allow_remote_code=allow_remote_code)  # mteb's loaders may trust it unasked
    return Registered(meta.model_copy(update={"revision": resolved.revision})), resolved


def _ours(model: Model, *, allow_remote_code: bool) -> tuple[Named, Resolved]:
    resolved = models.resolve(model)
    _refuse_own_code(model, resolved, allow_remote_code=allow_remote_code)
    return Named(model, allow_remote_code), resolved


def _refuse_own_code(model: Model, resolved: Resolved, *, allow_remote_code: bool) -> None:
    if not allow_remote_code and (file := own_code(model, resolved)):
        what = f"brings code of its own ({file} names it), which would run on this machine"
        raise InputError.of(what, model.model, _ALLOW)


def states_of(model: Any, resolved: Resolved, tasks: list[str], languages: list[str]) -> States:
    """Whether a model as `find` gives it may have been trained on the tasks: by the manifest that it carries, else by mteb's registry.

    Raises:
        InputError: its files cannot be had.
    """
    try:
        told = _json(model.model, resolved, PROVENANCE) if isinstance(model, Named) else None
    except InputError as error:
        if not isinstance(error.__cause__, ValueError):
            raise
        told = None  # it is damaged, and tells nothing
    return by_manifest(told, tasks, languages) if isinstance(told, dict) else by_registry(resolved.name, tasks)


def own_code(model: Model, resolved: Resolved) -> str | None:
    """The file of a model that asks for code from its repository, where one does.

    Raises:
        InputError: the files cannot be had.
    """
    for name in ("config.json", "modules.json", "tokenizer_config.json"):
        found = _json(model, resolved, name)
        if isinstance(found, dict) and found.get("auto_map"):
            return name
        if isinstance(found, list) and any(not str(it.get("type")).startswith("sentence_transformers") for it in found):
            return name
    return None


def _json(model: Model, resolved: Resolved, name: str) -> Any:
    import httpx2
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        here = is_local(model.model) or model.weights is not None
        path = (
            Path(resolved.path) / name if here else Path(hf_hub_download(model.model, name, revision=resolved.revision))
        )
        return json.loads(path.read_text(encoding="utf-8"))
    except (EntryNotFoundError, FileNotFoundError):  # also of a Hub that is not asked: offline, and not in the cache
        return None
    except (OSError, ValueError, httpx2.HTTPError) as error:
        what = f"{name} cannot be read ({type(error).__name__})"
        raise InputError.of(what, model.model, "Check HF_ENDPOINT and the network.") from error


def load(model: Model, *, allow_remote_code: bool = False) -> Any:
    """The model, of whatever kind its files declare: dense, sparse, or of late interaction.

    Raises:
        InputError: as `models.load`.
    """
    resolved = models.resolve(model)
    kind = (_json(model, resolved, "config_sentence_transformers.json") or {}).get("model_type")
    if kind != "SparseEncoder" and not allow_remote_code:
        return models.load(model)
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer
    from sentence_transformers.sparse_encoder import SparseEncoder

    classes: dict[str | None, Any] = {"MultiVectorEncoder": MultiVectorEncoder, "SparseEncoder": SparseEncoder}
    revision = None if is_local(model.model) or model.weights else resolved.revision
    asked = {"revision": revision, "trust_remote_code": allow_remote_code}
    try:
        loaded = classes.get(kind, SentenceTransformer)(resolved.path, **asked)
    except Exception as error:  # whatever half a dozen libraries say of files that they cannot take
        raise InputError.of(f"cannot be loaded as an embedding model ({type(error).__name__})", model.model) from error
    return models.configured(loaded, model)


def as_mteb(
    model: Any, resolved: Resolved, named: Named | Registered | Elsewhere | None, cache: Path, batch_size: int
) -> Any:
    """`model` as mteb takes it, under its resolved name, with embeddings that are kept in `cache`; `named`: how it was loaded."""
    from mteb.models import SentenceTransformerEncoderWrapper
    from mteb.models.sentence_transformer_wrapper import MultiVectorWrapper, SparseEncoderWrapper
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.sparse_encoder import SparseEncoder

    if isinstance(model, Ranker):
        return model
    if hasattr(model, "mteb_model_meta"):  # of the registry: with its own way of prompting around the model
        wrapped = model
    elif isinstance(model, MultiVectorEncoder):
        wrapped = MultiVectorWrapper(model)
    elif isinstance(model, SparseEncoder):
        wrapped = SparseEncoderWrapper(model)
    else:
        wrapped = SentenceTransformerEncoderWrapper(model)
    # A local model has no name for mteb, which would take the scores of one for those of another.
    identity = {"name": name_of(resolved), "revision": resolved.revision}
    wrapped.mteb_model_meta = wrapped.mteb_model_meta.model_copy(update=identity)
    inner = getattr(wrapped, "model", None)
    if hasattr(inner, "encode_document") and hasattr(inner, "max_seq_length"):
        revision = resolved.path if resolved.revision == UNSTATED else resolved.revision
        made_by = [resolved.name, revision, settings_of(inner), named.settings if named else None]
        at_once = inner.at_once if isinstance(inner, EndpointModel) else batch_size
        wrapped.model = Remembering(inner, made_by, named, cache, at_once)
    return wrapped


def settings_of(model: Any) -> list[Any]:
    """All that decides an embedding and is not in the weights of a loaded model, as JSON can say it."""
    prompts = [model.prompts, model.default_prompt_name]
    return [model.max_seq_length, *prompts, model.similarity_fn_name, repr(model)]


def _settings_files(folder: Path) -> list[Path]:
    return sorted(path for end in ("json", "txt", "model") for at in ("", "*/") for path in folder.glob(f"{at}*.{end}"))


def name_of(resolved: Resolved) -> str:
    return resolved.name if "/" in resolved.name else f"local/{resolved.name}"


def _texts(rows: Any, task_metadata: Any, prompt_type: Any) -> Any:
    """The texts of queries or of passages, as mteb gives them to a model."""
    from mteb._create_dataloaders import create_dataloader

    loader = create_dataloader(rows, task_metadata=task_metadata, prompt_type=prompt_type, batch_size=1024)
    return (text for batch in loader for text in batch["text"])
