"""The servers that answer: a request in; a `Reply` or a typed `Failure` out, from whichever endpoint has fewest requests in flight.

text-generation-inference is spoken through huggingface_hub's client. Every other OpenAI-compatible server gets its own dialect of the
JSON schema over plain HTTP, because that client would rewrite it into TGI's. What a server is and which model it serves is asked of it.
"""

import asyncio
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self

import httpx2
from huggingface_hub import AsyncInferenceClient, ChatCompletionOutput, set_async_client_factory
from huggingface_hub.errors import HfHubHTTPError

from medembed.errors import InputError, RunError
from medembed.generate.prompt import Request
from medembed.recipe import Generate

IN_PASSING = {408, 424, 425, 429}  # and 5xx: asked again, it may succeed (424 is TGI's failed generation)
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds between attempts, doubled each time
START_UP = 20.0  # seconds in which an endpoint must say who it is
_KEY = "Set MEDEMBED_API_KEY in the environment (for endpoints of Hugging Face, HF_TOKEN)."


@dataclass(frozen=True)
class Reply:
    """What the LLM wrote, not yet looked into."""

    content: str
    finish_reason: str
    usage: dict[str, int] = field(default_factory=dict)  # tokens
    latency: float = 0.0  # seconds
    max_tokens: int | None = None  # where more were allowed than the request said, because it was cut off with those


@dataclass(frozen=True)
class Failure:
    """A request without an answer; permanent, when asking again would not help. The reason quotes nothing that was sent."""

    reason: str
    permanent: bool = False
    status: int | None = None
    retry_after: float = 0.0  # seconds, as the server wishes


@dataclass
class Endpoint:
    """One server: how it is spoken to, which model it serves, and how it does at the moment."""

    url: str
    http: httpx2.AsyncClient
    tgi: AsyncInferenceClient
    model: str  # with its commit, where the server says it
    served_as: str | None  # what a request must call the model; None: the server is TGI
    in_flight: int = 0
    failures: int = 0  # in a row
    resting_until: float = 0.0  # on the monotonic clock
    window: int = 32

    @property
    def resting(self) -> bool:
        return self.resting_until > time.monotonic()

    async def ask(self, request: Request, timeout: float) -> Reply | Failure:
        """One attempt, of at most `timeout` seconds; raises nothing."""
        started = time.monotonic()
        self.in_flight += 1
        try:
            async with asyncio.timeout(timeout):
                completion = await (self._ask_tgi(request) if self.served_as is None else self._ask_openai(request))
            reply = _reply(completion, latency=round(time.monotonic() - started, 3))
        except (HfHubHTTPError, httpx2.HTTPStatusError) as error:
            failure = _failure(error.response)
        except TimeoutError:
            failure = Failure("timed out")
        except httpx2.HTTPError as error:
            failure = Failure(f"connection failed ({type(error).__name__})")
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            failure = Failure("no chat completion in the answer")
        else:
            self.failures, self.resting_until = 0, 0.0
            return reply
        finally:
            self.in_flight -= 1
        if not failure.permanent:
            # Without rest, a dead server would always be the one with fewest requests in flight.
            self.failures += 1
            self.resting_until = time.monotonic() + _pause(self.failures)
        return failure

    async def _ask_tgi(self, request: Request) -> ChatCompletionOutput:
        messages: Any = request.messages
        sampling: Any = request.sampling
        schema: Any = {"type": "json_object", "value": request.schema}
        # TGI takes every `model` but "tgi" for the id of an adapter.
        reply: ChatCompletionOutput = await self.tgi.chat_completion(
            messages, model="tgi", response_format=schema, **sampling
        )
        return reply

    async def _ask_openai(self, request: Request) -> ChatCompletionOutput:
        schema = {"name": "reply", "schema": request.schema, "strict": True}
        body: dict[str, Any] = {"model": self.served_as, "messages": request.messages, **request.sampling}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
        response = await self.http.post(f"{self.url}/v1/chat/completions", json=body)
        response.raise_for_status()
        return ChatCompletionOutput.parse_obj_as_instance(response.content)

    async def is_alive(self) -> bool:
        try:
            return (await self.http.get(f"{self.url}/health", timeout=START_UP)).status_code < 500
        except httpx2.HTTPError:
            return False


class Client:
    """The endpoints of a recipe, connected on entry, all serving one `model`."""

    def __init__(self, options: Generate) -> None:
        self._options = options
        self._endpoints: list[Endpoint] = []
        self.max_input_tokens: int | None = None
        self.max_total_tokens: int | None = None
        self._open = AsyncExitStack()

    @property
    def endpoints(self) -> list[Endpoint]:
        return self._endpoints

    @property
    def model(self) -> str:
        return self._endpoints[0].model

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            InputError: an endpoint cannot be reached, refuses the key, enforces no schema, or serves another model than the first.
        """
        set_async_client_factory(self._session)
        try:
            for url in self._options.endpoints:
                self._endpoints.append(await self._connect(url.removesuffix("/v1")))
        except BaseException:
            await self._open.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def answer(self, requests: Iterable[Request], ended: Callable[[Request, Reply | Failure], None]) -> None:
        """Ask all `requests`, taken one by one as there is room for them; `ended` is told how each ended.

        Raises:
            RunError: the key is refused, or no endpoint is left that answers.
        """
        waiting = iter(requests)

        async def work_off() -> None:
            # All tasks take from one iterator: who is free takes the next request, and no straggler holds up another.
            for request in waiting:
                ended(request, await self.ask(request))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._options.concurrency or 32):
                    group.create_task(work_off())
        except ExceptionGroup as several:
            raise several.exceptions[0] from None

    async def ask(self, request: Request, endpoints: Sequence[Endpoint] = ()) -> Reply | Failure:
        """How a request ends: by a reply, by a refusal, or by its last attempt's failure in passing.

        Raises:
            RunError: the key is refused, or no endpoint is left that answers.
        """
        endpoints = endpoints or self._endpoints
        failed: Counter[str] = Counter()  # where this request has failed: it goes elsewhere while there is an elsewhere
        for attempt in range(1, self._options.attempts + 1):
            now = time.monotonic()
            endpoint = min(endpoints, key=lambda each: (failed[each.url], each.resting_until > now, each.in_flight))
            outcome = await endpoint.ask(request, self._options.timeout)
            if isinstance(outcome, Reply):
                return outcome
            failed[endpoint.url] += 1
            if outcome.status in (401, 403):
                raise RunError.of(f"refuses the key ({outcome.status})", endpoint.url, _KEY)
            if outcome.permanent:
                return outcome
            if attempt < self._options.attempts:
                await asyncio.sleep(max(outcome.retry_after, _pause(attempt)))
            elif outcome.status != 429 and not any(await asyncio.gather(*(each.is_alive() for each in endpoints))):
                where = ", ".join(each.url for each in endpoints)
                mend = "What was answered is kept: when a server is back, the same command goes on."
                raise RunError.of(f"no endpoint answers any more ({outcome.reason})", where, mend)
        return outcome

    async def _connect(self, url: str) -> Endpoint:
        """Ask a server who it is; then see, by one tiny request, whether it enforces a schema."""
        tgi = await self._open.enter_async_context(AsyncInferenceClient(base_url=url))
        http = await self._open.enter_async_context(self._session())
        endpoint = Endpoint(url, http, tgi, *await _who(http, url))
        match await _get(http, f"{url}/info"):
            case {"max_input_tokens": int(most), "max_total_tokens": int(total)}:
                self.max_input_tokens = min(most, self.max_input_tokens or most)
                self.max_total_tokens = min(total, self.max_total_tokens or total)
        if self._endpoints and endpoint.model != self.model:
            what = f"serves {endpoint.model}, but {self._endpoints[0].url} serves {self.model}"
            raise InputError.of(what, url, "Endpoints must serve the same model, else the dataset is a mixture.")
        try:
            outcome = await self.ask(_PROBE, [endpoint])
        except RunError as error:
            raise InputError(*error.faults) from error
        if isinstance(outcome, Failure):
            raise InputError.of(f"fails at a test request: {outcome.reason}", url)
        if not _conforms(outcome):
            mend = "Start it with guided decoding, or use a server that has it."
            raise InputError.of("does not enforce the JSON schema of a request", url, mend)
        return endpoint

    def _session(self) -> httpx2.AsyncClient:
        # One connection for each request in flight; how long one may take is up to `Endpoint.ask`.
        limits = httpx2.Limits(max_connections=self._options.concurrency, max_keepalive_connections=None)
        return httpx2.AsyncClient(limits=limits, timeout=None, auth=_with_key)


# ---- who a server is -------------------------------------------------------------------------------------------------

# No model would say this of itself: it comes only from a server that enforces the schema.
_PROBE = Request(
    note_id="",
    prompt_version="",
    messages=[{"role": "user", "content": "Name a colour, as JSON."}],
    schema={
        "type": "object",
        "properties": {"word": {"type": "string", "enum": ["otorhinolaryngology"]}},
        "required": ["word"],
    },
    sampling={"temperature": 0.0, "max_tokens": 64, "seed": 1},
)


def _conforms(reply: Reply) -> bool:
    try:
        return bool(json.loads(reply.content, strict=False) == {"word": "otorhinolaryngology"})
    except (ValueError, RecursionError):
        return False


async def _who(http: httpx2.AsyncClient, url: str) -> tuple[str, str | None]:
    """The model that a server serves, and what requests must call it (None for TGI)."""
    match await _get(http, f"{url}/info"):
        case {"model_id": str(model), **more}:
            return (f"{model}@{more['model_sha']}" if more.get("model_sha") else model), None
    match await _get(http, f"{url}/v1/models"):
        case {"data": [{"id": str(model)}, *_]}:
            return model, model
    mend = "An endpoint is the URL of a text-generation-inference, vLLM or SGLang server."
    raise InputError.of("names no model, neither at /info nor at /v1/models", url, mend)


async def _get(http: httpx2.AsyncClient, url: str) -> Any:
    """The JSON at `url`; None when there is none."""
    try:
        response = await http.get(url, timeout=START_UP)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        mend = "Is the server up, and the URL right?"
        raise InputError.of(f"cannot be reached ({type(error).__name__})", url, mend) from error
    if response.status_code in (401, 403):
        raise InputError.of(f"refuses the key ({response.status_code})", url, _KEY)
    if response.status_code >= 500:
        raise InputError.of(f"is not ready: it answers {response.status_code}", url, "Wait until its model is loaded.")
    try:
        return response.json() if response.is_success else None
    except (ValueError, RecursionError):
        return None


def _with_key(request: httpx2.Request) -> httpx2.Request:
    """The request with the key that is meant for its host, and with no other: a Hub token is nobody else's business."""
    key = os.environ.get("MEDEMBED_API_KEY")
    if not key and re.search(r"(^|\.)huggingface\.(co|cloud)$", request.url.host):
        key = os.environ.get("HF_TOKEN")
    request.headers.pop("Authorization", None)  # huggingface_hub would send the token of `hf auth login` to any server
    if key:
        request.headers["Authorization"] = f"Bearer {key}"
    return request


# ---- what a server answers -------------------------------------------------------------------------------------------


def _reply(completion: ChatCompletionOutput, latency: float) -> Reply:
    choice = completion.choices[0]
    content = choice.message.content or ""
    if not isinstance(content, str):
        raise TypeError
    usage = completion.usage if isinstance(completion.usage, dict) else {}
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return Reply(
        content, str(choice.finish_reason), {n: usage[n] for n in names if isinstance(usage.get(n), int)}, latency
    )


def _failure(response: httpx2.Response) -> Failure:
    status = response.status_code
    try:
        kind = re.sub(r"\W", "", response.json()["error_type"])[:40]
    except (ValueError, TypeError, LookupError, RecursionError):
        kind = ""
    permanent = status < 500 and status not in IN_PASSING
    return Failure(f"{status} {kind}".strip(), permanent, status, _retry_after(response.headers.get("Retry-After", "")))


def _retry_after(header: str) -> float:
    """Seconds; at most ten minutes, whatever the server wishes, and none where it gives a date."""
    return min(float(header), 600.0) if re.fullmatch(r"\d{1,9}(\.\d+)?", header) else 0.0


def _pause(failures: int) -> float:
    """Seconds to wait after so many failures: exponential, with jitter."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 10)) * random.uniform(0.5, 1)
