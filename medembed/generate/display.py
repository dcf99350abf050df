"""What is seen while servers are asked: the state of the asking in; a live picture on a terminal, else a log line now and then.

Nothing of a note, a query or a reply is ever shown: only numbers, reasons and the URLs of servers.
"""

import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TextIO

from medembed.generate.replies import Reading
from medembed.llm.endpoints import Endpoint
from medembed.llm.outcomes import Failure, Reply
from medembed.recipe import Price
from medembed.rows import Reject

if TYPE_CHECKING:
    from rich.console import RenderableType

log = logging.getLogger(__name__)

DRAWN_EVERY, LOGGED_EVERY = 0.25, 30.0  # seconds


@dataclass
class State:
    """How far the asking is."""

    endpoints: Sequence[Endpoint]
    total: int | None  # rows of notes, as far as it is known
    price: Price | None
    unused: int = 0  # rows that give no note
    known: int = 0  # notes whose request the journal knew
    ended: int = 0  # requests, in this run
    pairs: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    tokens_in: int = 0
    tokens_out: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        return self.unused + self.known + self.ended

    def unusable(self, row: Reject) -> None:
        self.unused += 1
        self.rejects[row.reason] += 1

    def tell(self, outcome: Reply | Failure, reading: Reading) -> None:
        """One more request has ended."""
        self.ended += 1
        self.pairs += len(reading.pairs)
        self.rejects.update(reason for reason, _ in reading.rejects)
        if isinstance(outcome, Reply):
            self.tokens_in += outcome.usage.get("prompt_tokens", 0)
            self.tokens_out += outcome.usage.get("completion_tokens", 0)

    def said(self) -> list[str]:
        """The facts, each in a few words."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        facts = [f"{self.done:,} of {self.total:,} notes" if self.total else f"{self.done:,} notes"]
        facts += [f"{self.known:,} known before"] if self.known else []
        facts += [f"{self.pairs:,} pairs", f"{self.tokens_out / seconds:,.0f} tokens/s"]
        if self.price:
            facts.append(f"cost {cost(self.price, self.tokens_in, self.tokens_out):,.2f}")
        if self.total and self.ended and self.done <= self.total:
            facts.append(f"{timedelta(seconds=round(seconds / self.ended * (self.total - self.done)))} left")
        return facts

    def rejected(self) -> str:
        reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in self.rejects.most_common())
        return f"{self.rejects.total():,} rejected: {reasons}" if reasons else "none rejected"

    def servers(self) -> list[str]:
        """For each endpoint the requests in flight of those that its window lets in."""
        return [
            f"{each.url} {'resting' if each.resting else f'{each.in_flight}/{each.window} in flight'}"
            for each in self.endpoints
        ]


def cost(price: Price, tokens_in: float, tokens_out: float) -> float:
    return (tokens_in * price.input + tokens_out * price.output) / 1e6


@asynccontextmanager
async def shown(state: State, *, live: bool = True) -> AsyncIterator[None]:
    """Show `state` during the block, and how it was at the end; in lines of the log alone where it is not to be `live`."""
    with _screen(live) as (show, seconds):

        async def keep_showing() -> None:
            while True:
                await asyncio.sleep(seconds)
                show(state)

        task = asyncio.create_task(keep_showing())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            show(state)


@contextmanager
def _screen(live: bool) -> Iterator[tuple[Callable[[State], None], float]]:
    """How a state is shown, and how often."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if not live or not console.is_terminal or console.is_dumb_terminal:
        yield lambda state: log.info("%s", "; ".join([*state.said(), state.rejected(), *state.servers()])), LOGGED_EVERY
        return
    written_to = sys.stderr
    with Live(console=console, auto_refresh=False) as picture, _logged_above(written_to):
        yield lambda state: picture.update(_picture(state), refresh=True), DRAWN_EVERY


@contextmanager
def _logged_above(stream: TextIO) -> Iterator[None]:
    """Let log lines that go to `stream` go to where it was redirected: above the picture, not into it."""
    handlers = [each for each in logging.getLogger().handlers if getattr(each, "stream", None) is stream]
    redirected = [each for each in handlers if isinstance(each, logging.StreamHandler)]
    for handler in redirected:
        handler.setStream(sys.stderr)
    try:
        yield
    finally:
        for handler in redirected:
            handler.setStream(stream)


def _picture(state: State) -> "RenderableType":
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    bar = ProgressBar(total=state.total, completed=state.done, pulse=state.total is None)
    lines = [" · ".join(state.said()), state.rejected(), *state.servers()]
    return Group(*(Text(line) for line in lines), bar)  # a bar ends without a line's end
