"""Suspicious negatives → verdicts: an LLM is asked whether the passage answers the query after all.

The servers, the journal and its guarantees are those of generating: every reply stands in `judge.jsonl` of the run folder, none is paid
for twice, and the verdicts are made of the journal alone.
"""

import asyncio
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from tqdm import tqdm

from medembed.errors import RunError
from medembed.llm.client import Client
from medembed.llm.journal import Journal
from medembed.llm.outcomes import Failure, Reply
from medembed.llm.request import Request
from medembed.mine.suspects import ANSWERS, DOES_NOT, NO_VERDICT
from medembed.recipe import Generate, Judge

FOLDER = Path(__file__).parent / "prompts"
SCHEMA = {
    "type": "object",
    "properties": {
        "reason": {"type": "string"},
        "answers": {"type": "boolean"},
    },  # to give reasons first is to think first
    "required": ["reason", "answers"],
    "additionalProperties": False,
}
MAX_TOKENS = 256


class Question(NamedTuple):
    query: str
    passage_id: str
    passage: str


class Judged(NamedTuple):
    verdicts: list[int]  # ANSWERS, DOES_NOT or NO_VERDICT
    model: str
    prompt_version: str


def judge(questions: Sequence[Question], servers: Generate, options: Judge, journal: Path) -> Judged:
    """A verdict on each of the `questions`; those that the journal answers are not asked again.

    Raises:
        InputError: at the start, a server is not what it should be.
        RunError: no server is left that answers, or some requests have failed in passing.
    """
    prompt = Prompt(options, servers.seed)
    with Journal(append=journal) as answered:
        model = asyncio.run(_ask(questions, prompt, servers, answered))
        answered.flush()
        outcomes = [answered.outcome(prompt.request(question).key(model)) for question in questions]
        if silent := outcomes.count(None):
            what = f"{silent:,} of {len(outcomes):,} requests have no answer"
            mend = "The others are kept: the same command asks only these again."
            raise RunError.of(what, str(journal), mend)
        return Judged([read_verdict(outcome) for outcome in outcomes if outcome], model, prompt.version)


class Prompt:
    """The judge's prompt; a hash of its words is part of its version."""

    def __init__(self, options: Judge, seed: int) -> None:
        template = (FOLDER / f"{options.prompt}.jinja").read_text(encoding="utf-8")
        self.version = f"{options.prompt}@{hashlib.sha256(template.encode()).hexdigest()[:8]}"
        self._sampling: dict[str, Any] = {"temperature": 0.0, "max_tokens": MAX_TOKENS, "seed": seed}
        # The prompt is text, not HTML: to escape a passage would change it.
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
        self._template = environment.from_string(template)

    def request(self, question: Question) -> Request:
        words = {"query": question.query, "passage": question.passage}
        messages = [{"role": role, "content": self._render(role, words)} for role in ("system", "user")]
        return Request(question.passage_id, self.version, messages, SCHEMA, self._sampling)

    def _render(self, block: str, words: dict[str, str]) -> str:
        return "".join(self._template.blocks[block](self._template.new_context(words))).strip()


def read_verdict(outcome: Reply | Failure) -> int:
    """What a reply says. A failed request, and a reply that was cut off or has another form, give no verdict."""
    if isinstance(outcome, Failure) or outcome.finish_reason == "length":
        return NO_VERDICT
    try:
        said = json.loads(outcome.content, strict=False)
    except (ValueError, RecursionError):
        return NO_VERDICT
    match said:
        case {"answers": bool(answers)}:
            return ANSWERS if answers else DOES_NOT
    return NO_VERDICT


async def _ask(questions: Sequence[Question], prompt: Prompt, servers: Generate, journal: Journal) -> str:
    """Ask what the journal does not answer; the model that is asked."""
    async with Client(servers) as client:
        with tqdm(total=len(questions), desc="judge", unit="negative") as bar:

            def unanswered() -> Iterator[Request]:
                for question in questions:
                    request = prompt.request(question)
                    if request.key(client.model) in journal:
                        bar.update()
                    else:
                        yield request

            def ended(request: Request, outcome: Reply | Failure) -> None:
                journal.append(request, client.model, outcome)
                bar.update()

            await client.answer(unanswered(), ended)
        return client.model
