"""The servers that answer, together: an iterator of requests in; for each request a `Reply` or a typed `Failure` out, as they end.

A request is taken from the iterator when an endpoint has room for it, so no straggler holds up another and no more are held than the
windows are wide. One that failed in passing waits for its time and then comes first, at another endpoint where there is one.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self

from huggingface_hub import AsyncInferenceClient, set_async_client_factory

from medembed.errors import Fault, InputError, MedEmbedError, RunError
from medembed.llm.endpoints import Endpoint
from medembed.llm.outcomes import Failure, Reply, pause
from medembed.llm.request import Request
from medembed.llm.servers import Server, key_must_fit
from medembed.llm.sessions import TIMEOUT, session
from medembed.recipe import Generate

log = logging.getLogger(__name__)

Ended = Callable[[Request, Reply | Failure], None]


class Client:
    """The endpoints of a recipe, connected on entry, all serving one `model`; `among` so many clients that use them at once."""

    def __init__(self, options: Generate, among: int = 1) -> None:
        self.endpoints: list[Endpoint] = []
        self._options, self._among = options, among
        self._open = AsyncExitStack()

    @property
    def model(self) -> str:
        return self.endpoints[0].server.identity.model

    @property
    def max_input_tokens(self) -> int | None:
        """Of a request: the least that an endpoint states."""
        return min((n for each in self.endpoints if (n := each.server.identity.max_input_tokens)), default=None)

    @property
    def max_total_tokens(self) -> int | None:
        """Of a request and its reply: the least that an endpoint states."""
        return min((n for each in self.endpoints if (n := each.server.identity.max_total_tokens)), default=None)

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            InputError: endpoints cannot be reached, refuse the key, enforce no schema, or do not all serve the same model.
        """
        set_async_client_factory(session)
        try:
            servers = [await self._server(url.removesuffix("/v1")) for url in self._options.endpoints]
            required = self._options.enforcement == "required"
            connecting = (each.connect(self._options.attempts, schema_required=required) for each in servers)
            told = await asyncio.gather(*connecting, return_exceptions=True)
            _faults_are_told(told)
            _one_model(servers)
            self.endpoints = [Endpoint(each, self._options.concurrency, self._among) for each in servers]
        except BaseException:
            await self._open.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def answer(self, requests: Iterable[Request], ended: Ended) -> None:
        """Ask all `requests`; `ended` is told once of each how it ended.

        Raises:
            RunError: the key is refused, an endpoint changes its model, or none has answered for `patience` seconds.
        """
        await _Answering(self.endpoints, self._options, iter(requests), ended).run()

    async def _server(self, url: str) -> Server:
        http = await self._open.enter_async_context(session())
        timeout: Any = TIMEOUT  # huggingface_hub hands it on as it is, and with None would lift that of the session
        tgi = await self._open.enter_async_context(AsyncInferenceClient(base_url=url, timeout=timeout))
        return Server(url, http, tgi, self._options.timeout)


# ---- one call of `answer` --------------------------------------------------------------------------------------------


@dataclass
class _Asking:
    """A request on its way to an end."""

    request: Request
    attempts: int = 0  # that failed, where it may have been the request's own fault
    failed_at: Counter[str] = field(default_factory=Counter)  # URLs, whoever's fault it was
    refused_since: float | None = None
    max_tokens: int | None = None  # more than the request says, after a truncated reply
    truncated: Reply | None = None


class _Answering:
    """Whatever takes time here (an attempt with the pause after it, the probing of an endpoint that was set aside, a rest) is a task;
    when one is done the loop looks again what can be sent."""

    def __init__(self, endpoints: list[Endpoint], options: Generate, fresh: Iterator[Request], ended: Ended) -> None:
        self._endpoints, self._options, self._ended = endpoints, options, ended
        self._fresh: Iterator[Request] | None = fresh  # None: all are taken
        self._due: deque[_Asking] = deque()  # retries whose time has come
        self._unended = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._done: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()
        self._probed: set[str] = set()  # URLs of the endpoints that are set aside
        self._told = False  # that all of them are

    async def run(self) -> None:
        try:
            for endpoint in self._endpoints:  # as an earlier call may have left them
                self._look_after(endpoint)
            while True:
                self._give_out()
                if self._fresh is None and not self._unended:
                    return
                await self._something_is_done()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _give_out(self) -> None:
        """Send requests while there are requests, and room for them."""
        while (room := [each for each in self._endpoints if each.room > 0]) and (asking := self._next()):
            endpoint = min(room, key=lambda each: (asking.failed_at[each.url], -each.room))
            endpoint.sent()
            self._start(self._attempt(asking, endpoint))

    def _next(self) -> _Asking | None:
        if self._due:
            return self._due.popleft()
        request = next(self._fresh, None) if self._fresh is not None else None
        if request is None:
            self._fresh = None
            return None
        self._unended += 1
        return _Asking(request)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done.put_nowait)

    async def _something_is_done(self) -> None:
        """Wait for a task to be done; while no endpoint answers, no longer than patience lasts."""
        left = self._patience_left()
        try:
            async with asyncio.timeout(left):
                task = await self._done.get()
        except TimeoutError:
            return
        self._tasks.remove(task)
        task.result()

    def _patience_left(self) -> float | None:
        """Seconds until the run must stop; None while an endpoint answers, or may."""
        silent = [each.silent_since for each in self._endpoints if each.silent_since is not None]
        if len(silent) < len(self._endpoints) or any(each.in_flight for each in self._endpoints):
            self._told = False
            return None
        where = ", ".join(each.url for each in self._endpoints)
        if (left := max(silent) + self._options.patience - time.monotonic()) <= 0:
            mend = "What was answered is kept: when a server is back, the same command goes on."
            raise RunError.of("no endpoint answers any more", where, mend)
        if not self._told and all(each.resting for each in self._endpoints):
            log.warning("no endpoint answers; waiting up to %.0f s more for %s", left, where)
            self._told = True
        return left

    # ---- attempts ----

    async def _attempt(self, asking: _Asking, endpoint: Endpoint) -> None:
        """Send a request once, and settle how that ended."""
        outcome = await endpoint.server.ask(asking.request, asking.max_tokens)
        endpoint.ended(outcome)
        if isinstance(outcome, Failure):
            key_must_fit(outcome, endpoint.url)
            if not outcome.permanent:
                await self._failed(asking, endpoint, outcome)
            else:
                # The larger budget may have been more than the server can give; what it wrote with the smaller one stands.
                self._end(asking, asking.truncated or outcome)
        elif more := _more_tokens(asking, outcome, endpoint.server.identity.max_total_tokens):
            asking.max_tokens, asking.truncated = more, outcome
            self._due.append(asking)
        else:
            self._end(asking, outcome)

    async def _failed(self, asking: _Asking, endpoint: Endpoint, failure: Failure) -> None:
        """End a request that has failed too often. Another one is due again after a pause, in which it keeps its place there."""
        self._look_after(endpoint)
        asking.failed_at[endpoint.url] += 1
        asking.attempts += not failure.not_taken
        last = asking.attempts >= self._options.attempts or self._is_starved(asking, failure)
        if last:
            self._end(asking, failure)
        endpoint.held += 1
        try:
            await asyncio.sleep(pause(asking.failed_at.total()))
        finally:
            endpoint.held -= 1
        if not last:
            self._due.append(asking)

    def _is_starved(self, asking: _Asking, failure: Failure) -> bool:
        """Whether this request has been refused for longer than patience lasts by servers that do answer others."""
        if not failure.not_taken:
            asking.refused_since = None
            return False
        since = asking.refused_since = asking.refused_since or time.monotonic()
        others = any(each.last_answer > since for each in self._endpoints)
        return others and time.monotonic() - since > self._options.patience

    def _end(self, asking: _Asking, outcome: Reply | Failure) -> None:
        self._unended -= 1
        self._ended(asking.request, outcome)

    # ---- endpoints that are away ----

    def _look_after(self, endpoint: Endpoint) -> None:
        """See to it that an endpoint that is away is used again when it can be."""
        if endpoint.set_aside and endpoint.url not in self._probed:
            self._probed.add(endpoint.url)
            self._start(self._bring_back(endpoint))
        elif (rest := endpoint.rests_until - time.monotonic()) > 0:
            self._start(asyncio.sleep(rest))

    async def _bring_back(self, endpoint: Endpoint) -> None:
        log.info("%s is set aside until it answers again", endpoint.url)
        while endpoint.set_aside:
            endpoint.times_aside += 1
            await asyncio.sleep(pause(endpoint.times_aside))
            endpoint.set_aside = not await endpoint.server.is_back()
        endpoint.is_alive()
        log.info("%s is back", endpoint.url)
        self._probed.remove(endpoint.url)


def _more_tokens(asking: _Asking, reply: Reply, total: int | None) -> int | None:
    """The budget of a second attempt, after a first reply that was cut off: twice the first, as far as the server's limit allows."""
    had = asking.request.sampling.get("max_tokens")
    if reply.finish_reason != "length" or asking.truncated or had is None:
        return None
    left = total - reply.usage["prompt_tokens"] if total and "prompt_tokens" in reply.usage else 2 * had
    return int(min(2 * had, left)) if left > had else None


# ---- connecting ------------------------------------------------------------------------------------------------------


def _faults_are_told(outcomes: Iterable[BaseException | None]) -> None:
    """Raise what went wrong at all endpoints together, as one error."""
    faults: list[Fault] = []
    for outcome in outcomes:
        if isinstance(outcome, MedEmbedError):
            faults += outcome.faults
        elif outcome is not None:
            raise outcome
    if faults:
        raise InputError(*faults)


def _one_model(servers: list[Server]) -> None:
    first = servers[0]
    for server in servers[1:]:
        if server.identity.model != first.identity.model:
            what = f"serves {server.identity.model}, but {first.url} serves {first.identity.model}"
            mend = "Endpoints must serve the same model, else the dataset is a mixture."
            raise InputError.of(what, server.url, mend)
