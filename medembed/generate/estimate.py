"""What asking would take: a recipe in; requests, tokens, cost and hours out, without asking about a single note or writing anything.

Requests that the journal knows are left out. Each figure says whether it was counted, estimated or assumed.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

from medembed.errors import InputError
from medembed.generate import Served, open_journal, options_of
from medembed.generate.display import cost
from medembed.generate.notes import read_notes
from medembed.generate.passages import Note
from medembed.generate.prompt import Prompt
from medembed.llm.client import Client
from medembed.llm.journal import Journal
from medembed.llm.outcomes import Reply
from medembed.recipe import DatasetRecipe, Generate
from medembed.run import Run
from medembed.sources import check_sources
from medembed.tokens import count, counter


@dataclass
class Estimate:
    """What is left to ask, and what the journal tells of replies."""

    options: Generate
    whose: str  # which answers of the journal count
    counted: str  # how the tokens of requests were
    tokens_per_second: float | None = None  # of replies, from all servers together
    notes: int = 0
    requests: int = 0
    tokens_in: int = 0
    replies: int = 0  # that the journal has for these notes
    tokens_replied: int = 0
    seconds_replied: float = 0.0

    def __str__(self) -> str:
        most = self.options.max_tokens
        mean = self.tokens_replied / self.replies if self.tokens_replied else None
        per_reply = {f"at most ({most:,} a reply)": most} | (
            {f"at the journal's mean of {mean:,.0f} a reply": mean} if mean else {}
        )
        rows = [
            ("notes", f"{self.notes:,}"),
            ("requests", f"{self.requests:,}; {self.notes - self.requests:,} more are in the journal ({self.whose})"),
            ("tokens in", f"{self.tokens_in:,}, {self.counted}"),
        ]
        rate, rate_said = self._rate()
        for said, tokens in per_reply.items():
            tokens_out = self.requests * tokens
            rows.append(("tokens out", f"{tokens_out:,.0f} {said}"))
            if price := self.options.price:
                rows.append(("cost", f"{cost(price, self.tokens_in, tokens_out):,.2f} {said}"))
            if rate:
                rows.append(("hours", f"{tokens_out / rate / 3600:,.2f} {said}, at {rate:,.0f} tokens/s{rate_said}"))
        if not self.options.price:
            rows.append(("cost", "not known: set `generate.price`"))
        if not rate:
            rows.append(("hours", "not known: pass --tokens-per-second"))
        return "\n".join(f"{name:11s}{said}" for name, said in rows)

    def _rate(self) -> tuple[float | None, str]:
        """Tokens of replies a second: as given, else what the journal's replies had with as many in flight as the recipe says."""
        if self.tokens_per_second or not (self.options.concurrency and self.tokens_replied and self.seconds_replied):
            return self.tokens_per_second, ""
        in_flight = self.options.concurrency * len(self.options.endpoints)
        return (
            in_flight * self.tokens_replied / self.seconds_replied,
            f", the journal's rate with {in_flight} in flight",
        )


def estimate(recipe: DatasetRecipe, run: Run, tokens_per_second: float | None = None) -> Estimate:
    """Read all notes and count what asking about them would take.

    Raises:
        InputError: a source cannot be used.
    """
    options = options_of(recipe)
    check_sources(recipe.notes)
    with open_journal(options, run, name=None) as journal:
        served, whose = asyncio.run(_whose(options, journal))
        prompt = Prompt(options, served.input_tokens)
        tokens, counted = _counter_of(served.model)
        made = Estimate(options, whose, counted, tokens_per_second)
        system = None
        for note in read_notes(recipe.notes, options):
            if not isinstance(note, Note):
                continue
            made.notes += 1
            request = prompt.request(note)
            outcome = journal.outcome(request.key(served.model))
            if isinstance(outcome, Reply):
                made.replies += 1
                made.tokens_replied += outcome.usage.get("completion_tokens", 0)
                made.seconds_replied += outcome.latency
            if outcome is None:
                made.requests += 1
                first, *others = (message["content"] for message in request.messages)
                system = system or tokens(first)  # the same in all
                made.tokens_in += system + sum(map(tokens, others))
    return made


async def _whose(options: Generate, journal: Journal) -> tuple[Served, str]:
    """For which model's answers the journal is looked through: that of the servers, else the only one that it has answers of."""
    why = "no endpoint is named"
    if options.endpoints:
        try:
            async with Client(options) as client:
                return Served.by(client, options), f"{client.model}, which answers"
        except InputError as error:
            why = f"no server says which model it serves: {error.faults[0].what}"
    if len(journal.models) == 1:
        model = next(iter(journal.models))
        return Served(model), f"{model}, the journal's only one; {why}"
    return Served(""), f"none counts: {why}"


def _counter_of(model: str) -> tuple[Callable[[str], int], str]:
    """What counts the tokens of `model`, `org/name` or `org/name@commit`: its own tokenizer where that can be had."""
    named = re.fullmatch(r"([\w.-]+/[\w.-]+?)(?:@([0-9a-f]{40}))?", model)
    if named and _can_be_had(named[1], named[2]):
        try:
            return counter(named[1], named[2]), f"counted by the tokenizer of {model}"
        except InputError:
            pass
    return count, "estimated, since no tokenizer of the served model can be had"


def _can_be_had(repo: str, revision: str | None) -> bool:
    """Whether a tokenizer is here or on the Hub, asked once: to download it would be tried for half a minute where there is no Hub."""
    import httpx2
    from huggingface_hub import file_exists, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(repo, "tokenizer.json", revision=revision), str):
        return True
    try:
        return file_exists(repo, "tokenizer.json", revision=revision)
    except (OSError, ValueError, httpx2.HTTPError):
        return False
