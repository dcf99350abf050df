"""Requests sent by a real client to loopback servers, and how they ended."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from medembed.generate.passages import Note
from medembed.generate.prompt import Prompt
from medembed.llm.client import Client
from medembed.llm.outcomes import Failure, Reply
from medembed.llm.request import Request
from medembed.recipe import Generate
from tests.fixtures.tgi import TGI

Outcome = Reply | Failure
Watch = Callable[[Client], None]


def ask(*servers: TGI, requests: int = 1, watch: Watch = lambda _: None, **options: Any) -> list[Outcome]:
    """The outcomes of so many requests in their order, sent by one client; `watch` sees the client whenever one has ended."""
    urls = [server.url for server in servers]
    settings = Generate.model_validate({"endpoints": urls, "attempts": 4, "timeout": 1, **options})
    prompt = Prompt(settings)
    outcomes: dict[str, Outcome] = {}

    async def all_of_them() -> None:
        async with Client(settings) as client:

            def ended(request: Request, outcome: Outcome) -> None:
                assert request.note_id not in outcomes, "ended twice"
                outcomes[request.note_id] = outcome
                watch(client)

            await client.answer(about_notes(prompt, requests), ended)

    asyncio.run(all_of_them())
    assert len(outcomes) == requests, "not all have ended"
    return [outcomes[f"note-{n}"] for n in range(requests)]


def about_notes(prompt: Prompt, requests: int) -> Iterator[Request]:
    for n in range(requests):
        passage = f"Plan: start aspirin {n} mg and review the patient in clinic after {n} weeks. Bloods on arrival."
        yield prompt.request(Note(f"note-{n}", "", (passage,), "notes.jsonl", "cc0-1.0"))


def dies_after(tgi: TGI, requests: int) -> Callable[[str], str]:
    def fault(_: str) -> str:
        tgi.dead = tgi.dead or len(tgi.asked) > requests
        return "reset" if tgi.dead else ""

    return fault
