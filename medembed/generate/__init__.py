"""Notes → pairs. Clinical notes come in; out go their passages (the corpus) and, written by an LLM, queries that single passages answer.

Two passes over the notes, neither of which holds them: the first asks about those that the journal does not know, the second writes the
output from notes and journal alone. So a run that was killed ends like one that was not, and a recorded journal like its server.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medembed.errors import InputError, RunError
from medembed.generate.display import State, shown
from medembed.generate.notes import read_notes, rows_of
from medembed.generate.passages import Note
from medembed.generate.prompt import Prompt
from medembed.generate.replies import read_reply
from medembed.generate.tables import write_tables
from medembed.llm.client import Client
from medembed.llm.journal import Journal
from medembed.llm.outcomes import Failure, Reply
from medembed.llm.request import Request
from medembed.recipe import DatasetRecipe, Generate
from medembed.rows import Reject
from medembed.run import Record, Run, by_frequency, sha256
from medembed.sources import check_sources, source_hash
from medembed.tokens import tokenizer_file

log = logging.getLogger(__name__)

# How it is asked, not what: these may change, and what was done is still done.
_HOW = ("recorded", "concurrency", "timeout", "attempts", "patience", "price", "store", "slurm", "ray")


def inputs(recipe: DatasetRecipe, run: Run) -> tuple[Any, Any]:
    options = options_of(recipe)
    said = recipe.model_dump(mode="json", include={"notes", "generate"})
    for source in said["notes"]:
        source["source"] = source["source"].rsplit("/", 1)[-1]  # the hash below says which file; its folder may move
    for key in _HOW:
        del said["generate"][key]
    cutting = options.passages
    if cutting.tokenizer:
        said["generate"]["passages"]["tokenizer"] = cutting.tokenizer.rsplit("/", 1)[-1]
    return said, {
        "notes": [source_hash(source) for source in recipe.notes],
        "prompt": Prompt(options).version,
        "recorded": None if options.endpoints else sha256(_recorded(options)),
        "tokenizer": sha256(tokenizer_file(cutting.tokenizer, cutting.revision)) if cutting.tokenizer else None,
    }


def work(recipe: DatasetRecipe, run: Run) -> Record:
    options = options_of(recipe)
    check_sources(recipe.sources)  # labelled pairs too: after all the asking would be late to be told
    with open_journal(options, run) as journal:
        if not options.endpoints:
            served = Served(_author(journal, options))
        elif any(isinstance(note, Note) for note in read_notes(recipe.notes, options)):
            total = rows_of(recipe.notes, options.limit)
            served = asyncio.run(ask(read_notes(recipe.notes, options), options, journal, total))
        else:
            served = Served("nobody")  # there is nothing to ask about; writing tells why
        return write(recipe, run, journal, served)


@dataclass(frozen=True)
class Served:
    """Who answered: the model, and how many tokens its servers read at most. Both shape the requests, and so their keys."""

    model: str
    input_tokens: int | None = None

    @classmethod
    def by(cls, client: Client, options: Generate) -> "Served":
        """By the servers of a connected client; of their limits the one that leaves room for the reply."""
        limits = [client.max_input_tokens, client.max_total_tokens and client.max_total_tokens - options.max_tokens]
        return cls(client.model, min((limit for limit in limits if limit is not None), default=None))


async def ask(
    notes: Iterable[Note | Reject], options: Generate, journal: Journal, total: int | None = None, among: int = 1
) -> Served:
    """Ask about the notes that the journal does not know, and keep what is answered there; who answered.

    One `among` several processes that do so takes its share of each server, and leaves the terminal to all.

    Raises:
        InputError: at the start, an endpoint is not what it should be.
        RunError: no endpoint is left that answers.
        OSError: the journal cannot be written.
    """
    async with Client(options, among) as client:
        served = Served.by(client, options)
        prompt = Prompt(options, served.input_tokens)
        log.info("%s answers at %s", client.model, ", ".join(options.endpoints))
        state = State(client.endpoints, total, options.price)
        asked: dict[str, tuple[str, ...]] = {}  # note → the passages that its request, in flight, has shown

        def unanswered() -> Iterator[Request]:
            for note in notes:
                if isinstance(note, Reject):
                    state.unusable(note)
                    continue
                request = prompt.request(note)
                if request.key(client.model) in journal:
                    state.known += 1
                    continue
                asked[note.note_id] = prompt.shown(note)
                yield request

        def ended(request: Request, outcome: Reply | Failure) -> None:
            journal.append(request, client.model, outcome)
            state.tell(outcome, read_reply(outcome, asked.pop(request.note_id), options.queries))

        async with shown(state, live=among == 1):
            await client.answer(unanswered(), ended)
            journal.flush()
    return served


def write(recipe: DatasetRecipe, run: Run, journal: Journal, served: Served) -> Record:
    """Write the stage's tables from the journal; what was done."""
    options = options_of(recipe)
    prompt = Prompt(options, served.input_tokens)
    written = write_tables(read_notes(recipe.notes, options), prompt, journal, served.model, run.path("generate"))
    for kind in ("note", "pair"):
        if not written.counts[f"{kind}s"]:
            what = f"no {kind} is left: all {written.rejects.total():,} rows are rejected"
            raise RunError.of(what, str(run.path("generate", "rejects.parquet")), "It says why of each.")
    counted = ("notes", "notes shown in part", "replies", "passages", "pairs", "pairs not given")  # of those asked for
    return Record(
        "generate",
        counts={name: written.counts[name] for name in counted},
        rejects=by_frequency(written.rejects),
        facts={
            "generator": served.model,
            "prompt_version": prompt.version,
            "prompt": prompt.system,
            "queries": options.queries,
            "pairs_by_type": {kind: written.query_types[kind] for kind in options.queries},
            "tokens": {"in": written.tokens["prompt_tokens"], "out": written.tokens["completion_tokens"]},
        },
        measured={"endpoints": len(options.endpoints), "latency": written.latency()},
    )


# ---- who answers -----------------------------------------------------------------------------------------------------


def open_journal(options: Generate, run: Run, name: str | None = "journal.jsonl") -> Journal:
    """The run's own journals, the one called `name` to be written to, where servers are asked; the recorded one where none is."""
    return Journal.of(run.folder, name) if options.endpoints else Journal(_recorded(options))


def options_of(recipe: DatasetRecipe) -> Generate:
    if recipe.generate is None:
        raise InputError.of("the recipe has no section `generate`", recipe.name)
    return recipe.generate


def _recorded(options: Generate) -> Path:
    path = Path(options.recorded or "")
    if not path.is_file():
        raise InputError.of("is no journal of recorded replies", str(path), "Name one, or pass `--endpoint URL`.")
    return path


def _author(journal: Journal, options: Generate) -> str:
    """The one model that wrote a recorded journal."""
    if len(journal.models) != 1:
        what = f"holds replies of {len(journal.models)} models, not of one"
        raise InputError.of(what, options.recorded or "", "Pass `--endpoint URL` to ask a server.")
    return next(iter(journal.models))
