"""Embedding models behind endpoints: texts in, embeddings out, by OpenAI's protocol or by that of text-embeddings-inference.

The texts leave this machine. Requests are made in batches, a bounded number at once; what fails in passing is asked again after a pause,
and whatever is no embedding of each text ends the work with an error: a score of it would be that of nothing.
"""

import asyncio
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from medembed.errors import InputError, RunError
from medembed.llm.outcomes import Failure, pause, read_error
from medembed.llm.servers import get_json, key_must_fit
from medembed.llm.sessions import session
from medembed.models import Resolved
from medembed.recipe import Endpoint

CONCURRENCY = 8  # requests at once
ATTEMPTS = 8  # at one batch: with the pauses between them about a minute
TIMEOUT = 300.0  # seconds for one attempt
UNSTATED = "as-served"  # the revision, where a server does not say which weights it has

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Served:
    """What a server says of the model behind it."""

    kind: str
    model: str  # as a request must call it
    revision: str
    extra: dict[str, Any]  # what a request must say besides, so that long texts are cut as a local model cuts them
    batch: int | None = None  # texts that it takes at once, where it says so


class EndpointModel:
    """An embedding model elsewhere, with the methods of a `SentenceTransformer` that measuring needs."""

    similarity_fn_name = "cosine"
    default_prompt_name = None
    max_seq_length = None  # the server's, which it need not tell
    device = SimpleNamespace(type="elsewhere")

    def __init__(self, endpoint: Endpoint, served: Served, batch_size: int) -> None:
        self.prompts = {"query": endpoint.prompts.get("query", ""), "document": endpoint.prompts.get("passage", "")}
        self.dimensions: int | None = None  # once it has answered
        self._url, self._kind, self._served = _base(endpoint), served.kind, served
        self._batch_size = min(batch_size, served.batch or batch_size)
        self._signs_as: str | None = None

    def __repr__(self) -> str:
        return f"{self._kind} {self._served.model} {self._served.revision} {self._served.extra}"

    @property
    def at_once(self) -> int:
        """How many texts keep all its connections busy."""
        return CONCURRENCY * self._batch_size

    @property
    def resolved(self) -> Resolved:
        """Its name and revision are what the server reports: a Hub id as it is, anything else under `endpoint/`."""
        name = self._served.model
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            name = f"endpoint/{name.rstrip('/').rpartition('/')[2]}"
        return Resolved(name, self._served.revision, self._url)

    def width(self) -> int:
        """How many dimensions its embeddings have: asked, where it has not answered yet."""
        return self.dimensions or int(self.encode_query([" "]).shape[1])

    def encode_query(self, texts: Sequence[str], **_: Any) -> Floats:
        """The embeddings of queries, (N, D).

        Raises:
            RunError: the server cannot be reached, refuses, or gives what is no embedding of each text.
        """
        return self._encode([self.prompts["query"] + text for text in texts])

    def encode_document(self, texts: Sequence[str], **_: Any) -> Floats:
        """The embeddings of passages, (N, D); errors as `encode_query`."""
        return self._encode([self.prompts["document"] + text for text in texts])

    def _encode(self, texts: list[str]) -> Floats:
        if not texts:
            return np.empty((0, self.dimensions or 0), np.float32)
        # Servers refuse an empty text; a space is what tokenizers make of none.
        filled = [text or " " for text in texts]
        batches = [filled[start : start + self._batch_size] for start in range(0, len(texts), self._batch_size)]
        # Quick work needs no bar.
        with tqdm(total=len(texts), unit=" texts", desc=self._served.model, leave=False, delay=1) as bar:
            return np.concatenate(asyncio.run(self._all(batches, bar)))

    async def _all(self, batches: list[list[str]], bar: Any) -> list[Floats]:
        free = asyncio.Semaphore(CONCURRENCY)
        async with session() as http:

            async def one(batch: list[str]) -> Floats:
                async with free:
                    found = await self._batch(http, batch)
                bar.update(len(batch))
                return found

            return await asyncio.gather(*map(one, batches))

    async def _batch(self, http: httpx2.AsyncClient, texts: list[str]) -> Floats:
        """One batch, asked until it is answered."""
        for attempt in range(1, ATTEMPTS + 1):
            outcome = await self._ask(http, texts)
            if not isinstance(outcome, Failure):
                return self._checked(outcome, len(texts))
            key_must_fit(outcome, self._url)
            if outcome.permanent:
                what = f"refuses a batch of {len(texts)} texts ({outcome.reason})"
                mend = "A text may be longer than it takes: start the server so that it cuts long texts."
                raise RunError.of(what, self._url, mend)
            if attempt < ATTEMPTS:
                await asyncio.sleep(max(outcome.retry_after, pause(attempt)))
        what = f"gives no embeddings, asked {ATTEMPTS} times ({outcome.reason})"
        raise RunError.of(what, self._url, "Is the server up? The same command goes on from here.")

    async def _ask(self, http: httpx2.AsyncClient, texts: list[str]) -> Any:
        """The body of an answer, or how the attempt failed."""
        path, body = ("/embed", {"inputs": texts}) if self._kind == "tei" else ("/v1/embeddings", {"input": texts})
        try:
            async with asyncio.timeout(TIMEOUT):
                response = await http.post(f"{self._url}{path}", json=body | self._served.extra)
        except TimeoutError:
            return Failure("timed out")
        except httpx2.HTTPError as error:
            return Failure(f"connection failed ({type(error).__name__})")
        if not response.is_success:
            return read_error(response)
        try:
            return response.json()
        except (ValueError, RecursionError):
            return Failure("no JSON in the answer")

    def _checked(self, answer: Any, texts: int) -> Floats:
        """The embeddings in an answer, in the order of the texts.

        Raises:
            RunError: they are not one for each text, not numbers, or of other dimensions than the first.
        """
        rows = answer if self._kind == "tei" else self._of_openai(answer)
        if not isinstance(rows, list) or len(rows) != texts:
            raise self._wrong(f"gives {len(rows) if isinstance(rows, list) else 'no'} embeddings for {texts} texts")
        try:
            found = np.asarray(rows, np.float32)
        except (ValueError, TypeError) as error:
            raise self._wrong("gives embeddings that are not rows of numbers, all of one length") from error
        if found.ndim != 2 or not found.shape[1]:
            raise self._wrong("gives embeddings that are not rows of numbers, all of one length")
        if not np.isfinite(found).all():
            raise self._wrong("gives embeddings that are not finite (NaN or infinity)")
        self.dimensions = self.dimensions or found.shape[1]
        if found.shape[1] != self.dimensions:
            raise self._wrong(f"gives embeddings of {found.shape[1]} dimensions now, and of {self.dimensions} before")
        return found

    def _of_openai(self, answer: Any) -> Any:
        """The embeddings in the order of their `index`, after a look at the model that signs."""
        try:
            rows, signed = answer["data"], answer.get("model")
            places = [row["index"] for row in rows]
            found = [row["embedding"] for row in sorted(rows, key=lambda row: row["index"])]
        except (TypeError, KeyError, AttributeError):
            return None
        if sorted(places) != list(range(len(places))):
            raise self._wrong("gives embeddings whose places (`index`) are not those of the texts")
        self._signs_as = self._signs_as or signed
        if signed != self._signs_as:
            raise self._wrong("answers as another model than before")
        return found

    def _wrong(self, what: str) -> RunError:
        error = RunError.of(what, self._url, "Its scores would be worth nothing: mend the server.")
        assert isinstance(error, RunError)
        return error


class EndpointEncoder:
    """An `EndpointModel` as mteb ranks with it."""

    def __init__(self, model: EndpointModel) -> None:
        from mteb.models import ModelMeta
        from mteb.models.model_meta import ScoringFunction

        self.model = model
        named = {"name": model.resolved.name, "revision": model.resolved.revision, "framework": ["API"]}
        self.mteb_model_meta = ModelMeta.create_empty(overwrites=named | {"similarity_fn_name": ScoringFunction.COSINE})

    def encode(self, inputs: Any, *, prompt_type: str | None = None, **_: Any) -> Floats:
        """The embeddings of what mteb's batches hold, (N, D)."""
        texts = [text for batch in inputs for text in batch["text"]]
        return self.model.encode_query(texts) if prompt_type == "query" else self.model.encode_document(texts)

    def similarity(self, queries: Any, passages: Any) -> Any:
        from mteb.similarity_functions import cos_sim

        return cos_sim(queries, passages)

    def similarity_pairwise(self, some: Any, others: Any) -> Any:
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(some, others)


@dataclass(frozen=True)
class Elsewhere:
    """A model behind an endpoint as a recipe names it, connected when there is something to encode."""

    endpoint: Endpoint
    batch_size: int = 32

    @property
    def settings(self) -> list[Any]:
        """What decides an embedding and is not in the revision, as JSON can say it."""
        return ["endpoint", self.endpoint.prompts]

    def load(self) -> EndpointEncoder:
        return EndpointEncoder(self.encoder())

    def encoder(self) -> EndpointModel:
        """
        Raises:
            InputError: the server cannot be reached, refuses the key, or does not serve the model that is named.
        """
        return EndpointModel(self.endpoint, asyncio.run(_served(self.endpoint)), self.batch_size)


async def _served(endpoint: Endpoint) -> Served:
    url = _base(endpoint)
    async with session() as http:
        info = await get_json(http, f"{url}/info") if endpoint.kind != "openai" else None
        if endpoint.kind == "tei" or (isinstance(info, dict) and "model_type" in info):
            return _by_tei(info, endpoint)
        return _by_openai(await get_json(http, f"{url}/v1/models"), endpoint)


def _by_tei(info: Any, endpoint: Endpoint) -> Served:
    match info:
        case {"model_id": str(model), "model_type": {"embedding": _}, **more}:
            if endpoint.model and endpoint.model != model:
                raise InputError.of(f"serves {model}, not {endpoint.model}", endpoint.endpoint)
            size = more.get("max_client_batch_size")
            batch = size if isinstance(size, int) and size > 0 else None
            return Served("tei", model, str(more.get("model_sha") or UNSTATED), {"truncate": True}, batch)
        case {"model_id": str(model)}:
            raise InputError.of(f"serves {model}, which is no embedding model", endpoint.endpoint)
    what = "is no text-embeddings-inference server: /info names no model"
    raise InputError.of(what, endpoint.endpoint, "Leave `kind` out, and the server is asked.")


def _by_openai(listed: Any, endpoint: Endpoint) -> Served:
    rows = listed.get("data") if isinstance(listed, dict) else None
    models = {row["id"]: row for row in rows or () if isinstance(row, dict) and isinstance(row.get("id"), str)}
    name = endpoint.model or (next(iter(models)) if len(models) == 1 else None)
    if not models:
        mend = "An endpoint is the URL of a server with OpenAI's /v1/embeddings, or of text-embeddings-inference."
        raise InputError.of("names no model at /v1/models", endpoint.endpoint, mend)
    if name is None:
        mend = f"Say which, as `model: NAME` in a recipe or `--model URL#NAME`: {', '.join(sorted(models)[:5])} …"
        raise InputError.of(f"serves {len(models)} models", endpoint.endpoint, mend)
    if name not in models:
        near = difflib.get_close_matches(name, models, n=3, cutoff=0)
        raise InputError.of(f"does not serve {name}", endpoint.endpoint, f"It serves {', '.join(near)}.")
    # vLLM cuts long texts when a request says so (-1: to the model's length); others do so, or refuse, as they were started.
    cut = {"truncate_prompt_tokens": -1} if models[name].get("owned_by") == "vllm" else {}
    return Served("openai", name, UNSTATED, {"model": name, "encoding_format": "float"} | cut)


def _base(endpoint: Endpoint) -> str:
    return endpoint.endpoint.removesuffix("/v1")
