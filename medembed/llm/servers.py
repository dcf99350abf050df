"""One server that answers: who it is, how it wants a JSON schema, one attempt. A request in; a `Reply` or a typed `Failure` out.

text-generation-inference is spoken through huggingface_hub's client. Every other server gets its own dialect over plain HTTP, because
that client would rewrite it into TGI's. What a server is, which model it serves and how much it takes is asked of it; and before any
work one tiny request proves that it enforces a schema.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2
from huggingface_hub import AsyncInferenceClient, ChatCompletionOutput
from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError

from medembed.errors import InputError, MedEmbedError, RunError
from medembed.llm.outcomes import Failure, Reply, pause, read_completion, read_error
from medembed.llm.request import Request
from medembed.llm.sessions import KEY, START_UP
from medembed.rows import as_json

log = logging.getLogger(__name__)


# How a server wants the JSON schema of a reply, as `response_format`.
DIALECTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "openai": lambda schema: {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": schema, "strict": True},
    },
    "llama.cpp": lambda schema: {"type": "json_object", "schema": schema},
    "tgi": lambda schema: {"type": "json_object", "value": schema},
}


@dataclass(frozen=True)
class Identity:
    """What a server says of itself. A limit that it does not state is None."""

    model: str  # with its commit, where the server says it
    served_as: str  # what a request must call the model
    kind: str  # tgi, vllm, sglang, llamacpp; anything else is not known, and is tried with all dialects
    takes: int | None = None  # requests at once
    max_input_tokens: int | None = None
    max_total_tokens: int | None = None  # of a request and its reply

    @property
    def dialects(self) -> list[str]:
        known = {"tgi": ["tgi"], "vllm": ["openai"], "sglang": ["openai"], "llamacpp": ["llama.cpp"]}
        return known.get(self.kind, list(DIALECTS))


class Server:
    """A server at `url`, not yet asked anything. `connect` comes first."""

    identity: Identity
    dialect: str | None  # None: the schema is not sent

    def __init__(self, url: str, http: httpx2.AsyncClient, tgi: AsyncInferenceClient, timeout: float) -> None:
        self.url, self._http, self._tgi, self._timeout = url, http, tgi, timeout
        self._signs_as: str | None = None  # how its replies name the model, in whichever form it likes

    async def connect(self, attempts: int, *, schema_required: bool) -> None:
        """Ask the server who it is; then see, by one tiny request in each dialect that it may speak, whether it enforces a schema.

        Raises:
            InputError: it cannot be reached, refuses the key, fails at the request, or enforces no schema though that is required.
        """
        self.identity = await who(self._http, self.url)
        outcomes = []
        for dialect in [*self.identity.dialects, *([] if schema_required else [None])]:
            outcomes.append(await self._probe(dialect, attempts))
            if conforms(outcomes[-1]):
                return
        failures = [each for each in outcomes if isinstance(each, Failure)]
        if len(failures) == len(outcomes):
            raise InputError.of(f"fails at a test request: {failures[0].reason}", self.url)
        what = "does not enforce the JSON schema of a request"
        if schema_required:
            mend = "Start it with guided decoding, use a server that has it, or say `schema: validate-only`."
            raise InputError.of(what, self.url, mend)
        log.warning("%s %s: none is sent, and replies are only validated", self.url, what)

    async def is_back(self) -> bool:
        """Whether a server that was set aside is healthy, and answers.

        Raises:
            RunError: it serves another model than before, or refuses the key.
        """
        try:
            async with asyncio.timeout(self._timeout):
                health = await self._http.get(f"{self.url}/health", timeout=START_UP)
                if health.status_code >= 500:
                    return False
                identity = await who(self._http, self.url)
        except (InputError, httpx2.HTTPError, TimeoutError):
            return False
        if identity.model != self.identity.model:
            raise self._changed(identity.model)
        outcome = await self.ask(PROBE)
        if isinstance(outcome, Failure):
            key_must_fit(outcome, self.url)
        return isinstance(outcome, Reply)

    async def ask(self, request: Request, max_tokens: int | None = None) -> Reply | Failure:
        """One attempt, with another budget than the request's when `max_tokens` is given.

        Raises:
            RunError: the reply is that of another model than the first was.
        """
        sampling = request.sampling | ({"max_tokens": max_tokens} if max_tokens else {})
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                completion = await (self._ask_tgi if self.identity.kind == "tgi" else self._ask_openai)(
                    request, sampling
                )
            reply = read_completion(completion, round(time.monotonic() - started, 3), max_tokens)
            signed = completion.model
        except (HfHubHTTPError, httpx2.HTTPStatusError) as error:
            return read_error(error.response)
        except (InferenceTimeoutError, httpx2.ConnectTimeout, httpx2.ConnectError):
            # huggingface_hub's name for every time-out of httpx2, which has one for connections alone here.
            return Failure("cannot be reached", not_taken=True)
        except TimeoutError:
            return Failure("timed out", overload=True)
        except httpx2.HTTPError as error:
            return Failure(f"connection failed ({type(error).__name__})")
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return Failure("no chat completion in the answer")
        self._signs_as = self._signs_as or signed
        if signed and signed != self._signs_as:
            raise self._changed(str(signed))
        return reply

    async def _ask_tgi(self, request: Request, sampling: dict[str, Any]) -> ChatCompletionOutput:
        messages: Any = request.messages
        form: Any = DIALECTS[self.dialect](request.schema) if self.dialect else None
        completion: ChatCompletionOutput = await self._tgi.chat_completion(
            messages, model=self.identity.served_as, response_format=form, **sampling
        )
        return completion

    async def _ask_openai(self, request: Request, sampling: dict[str, Any]) -> ChatCompletionOutput:
        body = {"model": self.identity.served_as, "messages": request.messages, **sampling}
        if self.dialect:
            body["response_format"] = DIALECTS[self.dialect](request.schema)
        response = await self._http.post(f"{self.url}/v1/chat/completions", json=body)
        response.raise_for_status()
        return ChatCompletionOutput.parse_obj_as_instance(response.content)

    async def _probe(self, dialect: str | None, attempts: int) -> Reply | Failure:
        self.dialect = dialect
        for attempt in range(1, attempts + 1):
            outcome = await self.ask(PROBE)
            if isinstance(outcome, Reply) or outcome.permanent:
                break
            if attempt < attempts:
                await asyncio.sleep(max(outcome.retry_after, pause(attempt)))
        if isinstance(outcome, Failure):
            key_must_fit(outcome, self.url)
        return outcome

    def _changed(self, model: str) -> MedEmbedError:
        mend = "The dataset would be a mixture. Serve the first model again; what it answered is kept."
        return RunError.of(f"answers as {model} now, not as {self._signs_as or self.identity.model}", self.url, mend)


# ---- who a server is -------------------------------------------------------------------------------------------------


async def who(http: httpx2.AsyncClient, url: str) -> Identity:
    """What the server at `url` says of itself.

    Raises:
        InputError: it cannot be reached, refuses the key, is not ready, or names no model.
    """
    match await get_json(http, f"{url}/info"):
        case {"model_id": str(model), **more}:
            return Identity(
                f"{model}@{more['model_sha']}" if more.get("model_sha") else model,
                served_as="tgi",  # TGI takes every other name for the id of an adapter
                kind="tgi",
                takes=_count(more, "max_concurrent_requests"),
                max_input_tokens=_count(more, "max_input_tokens"),
                max_total_tokens=_count(more, "max_total_tokens"),
            )
    match await get_json(http, f"{url}/v1/models"):
        case {"data": [{"id": str(model), "owned_by": "llamacpp"}, *_]}:
            props = await get_json(http, f"{url}/props") or {}
            settings = props.get("default_generation_settings") or {}
            takes, context = _count(props, "total_slots"), _count(settings, "n_ctx")
            return Identity(model, model, "llamacpp", takes, max_total_tokens=context)
        case {"data": [{"id": str(model), **more}, *_]}:
            kind = str(more.get("owned_by"))
            return Identity(model, model, kind, max_total_tokens=_count(more, "max_model_len"))
    mend = "An endpoint is the URL of a text-generation-inference, vLLM, SGLang or llama.cpp server."
    raise InputError.of("names no model, neither at /info nor at /v1/models", url, mend)


async def get_json(http: httpx2.AsyncClient, url: str) -> Any:
    """The JSON at `url`, of texts that UTF-8 can write; None when there is none.

    Raises:
        InputError: the server cannot be reached, refuses the key, or is not ready.
    """
    try:
        response = await http.get(url, timeout=START_UP)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        mend = "Is the server up, and the URL right?"
        raise InputError.of(f"cannot be reached ({type(error).__name__})", url, mend) from error
    if response.status_code in (401, 403):
        raise InputError.of(f"refuses the key ({response.status_code})", url, KEY)
    if response.status_code >= 500:
        raise InputError.of(f"is not ready: it answers {response.status_code}", url, "Wait until its model is loaded.")
    try:
        return json.loads(as_json(response.json())) if response.is_success else None
    except (ValueError, RecursionError):
        return None


def _count(said: Any, name: str) -> int | None:
    """A number of at least one that a server says of itself."""
    value = said.get(name) if isinstance(said, dict) else None
    return value if isinstance(value, int) and value > 0 else None


# No model would say this of itself: it comes only from a server that enforces the schema.
PROBE = Request(
    note_id="",
    prompt_version="",
    messages=[{"role": "user", "content": "Name a colour, as JSON."}],
    schema={
        "type": "object",
        "properties": {"word": {"type": "string", "enum": ["otorhinolaryngology"]}},
        "required": ["word"],
    },
    sampling={"temperature": 0.0, "max_tokens": 256, "seed": 1},  # room for the white space that a grammar may allow
)


def conforms(outcome: Reply | Failure) -> bool:
    """Whether this is what the schema of `PROBE` leaves to be said."""
    try:
        return isinstance(outcome, Reply) and json.loads(outcome.content) == {"word": "otorhinolaryngology"}
    except (ValueError, RecursionError):
        return False


def key_must_fit(failure: Failure, url: str) -> None:
    if failure.status in (401, 403):
        raise RunError.of(f"refuses the key ({failure.status})", url, KEY)
