"""Notes → pairs. Clinical notes come in; out go their passages (the corpus) and, written by an LLM, queries that single passages answer.

Every reply goes through the journal: what stands there is not asked again, and the output is made of notes and journal alone. So a
run that was killed ends like one that was not, and a recorded journal gives the same pairs as the server that wrote it.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from medembed.errors import InputError, RunError
from medembed.generate.client import Client
from medembed.generate.journal import Journal
from medembed.generate.outcomes import Failure, Reply
from medembed.generate.passages import Note, cut, normalise
from medembed.generate.prompt import Prompt, Request
from medembed.generate.replies import read_reply
from medembed.recipe import DatasetRecipe, Generate, Notes, Passages
from medembed.rows import CORPUS, PAIRS, Reject, as_json, content_id, passage_input
from medembed.run import Record, Run, sha256
from medembed.sources import check_sources, read_rows, source_hash

log = logging.getLogger(__name__)

Row = dict[str, str]


def inputs(recipe: DatasetRecipe, run: Run) -> tuple[Any, Any]:
    options = _options(recipe)
    said = recipe.model_dump(mode="json", include={"notes", "generate"})
    for source in said["notes"]:
        source["source"] = source["source"].rsplit("/", 1)[-1]  # the hash below says which file; its folder may move
    for key in ("recorded", "concurrency", "timeout", "attempts"):  # how it is asked, not what
        del said["generate"][key]
    return said, {
        "notes": [source_hash(source) for source in recipe.notes],
        "prompt": Prompt(options).version,
        "recorded": None if options.endpoints else sha256(_recorded(options)),
    }


def work(recipe: DatasetRecipe, run: Run) -> Record:
    options = _options(recipe)
    check_sources([*recipe.notes, *recipe.pairs])  # labelled pairs too: after all the asking would be late to be told
    notes, rejects = read_notes(recipe.notes, options.passages)
    _none_left_is_told(notes, "note", rejects, run)

    prompt = Prompt(options)
    with _journal(options, run) as journal:
        model = asyncio.run(ask(notes, prompt, journal)) if options.endpoints else _author(journal)
        _silence_is_told(notes, prompt, journal, model)
        pairs, rejected, missing = read_replies(notes, prompt, journal, model)
    rejects += rejected
    _none_left_is_told(pairs, "pair", rejects, run)

    corpus = passages_of(notes)
    run.write("generate", "corpus", pa.Table.from_pylist(corpus, schema=CORPUS))
    run.write("generate", "pairs", pa.Table.from_pylist(pairs, schema=PAIRS))
    return Record(
        "generate",
        counts={
            "notes": len(notes),
            "passages": len(corpus),
            "pairs": len(pairs),
            "pairs not given": missing,  # of those asked for
            "notes shown in part": sum(prompt.shown(note) != note.passages for note in notes),
        },
        rejects=run.write_rejects("generate", rejects),
        facts={"generator": model, "prompt_version": prompt.version, "queries": options.queries},
    )


def read_notes(sources: Iterable[Notes], options: Passages) -> tuple[list[Note], list[Reject]]:
    """The notes of all sources, normalised and cut, in their order; and rejects for the rows that give none.

    A note is named by its text. The ids of a source may be record numbers of patients: they end here.
    """
    notes: dict[str, Note] = {}
    rejects: list[Reject] = []
    for source in sources:
        for row in read_rows(source):
            if isinstance(row, Reject):
                rejects.append(row)
                continue
            text = normalise(row["text"])
            note_id = content_id(text)
            if not text or note_id in notes:
                reason = "duplicate note" if text else "empty text"
                rejects.append(Reject(reason, row["where"], as_json(row)))
                continue
            title = " ".join(normalise(row.get("title", "")).split())
            notes[note_id] = Note(note_id, title, tuple(cut(text, options)), row["source"], row["license"])
    return list(notes.values()), rejects


async def ask(notes: list[Note], prompt: Prompt, journal: Journal) -> str:
    """Ask about the notes that the journal does not know, `concurrency` at a time; the model that answers.

    Raises:
        InputError: at the start, an endpoint is not what it should be.
        RunError: no endpoint is left that answers.
    """
    async with Client(prompt.options) as client:
        log.info("%s answers at %s", client.model, ", ".join(prompt.options.endpoints))
        with tqdm(total=len(notes), desc="generate", unit="note") as bar:
            asked: dict[str, Note] = {}
            told: Counter[str] = Counter()

            def unanswered() -> Iterator[Request]:
                for note in notes:
                    request = prompt.request(note)
                    if request.key(client.model) in journal:
                        bar.update()
                    else:
                        asked[note.note_id] = note
                        yield request

            def ended(request: Request, outcome: Reply | Failure) -> None:
                journal.append(request, client.model, outcome)
                reading = read_reply(outcome, prompt.shown(asked.pop(request.note_id)), prompt.options.queries)
                told.update(pairs=len(reading.pairs), rejects=len(reading.rejects))
                bar.set_postfix(told, refresh=False)
                bar.update()

            await client.answer(unanswered(), ended)
        return client.model


def read_replies(
    notes: list[Note], prompt: Prompt, journal: Journal, model: str
) -> tuple[list[Row], list[Reject], int]:
    """The pairs that the journal's replies give, in the order of the notes; the rejects; how many pairs were not given."""
    pairs: list[Row] = []
    rejects: list[Reject] = []
    missing = 0
    for note in notes:
        outcome = journal.outcome(prompt.request(note).key(model))
        reading = read_reply(outcome, prompt.shown(note), prompt.options.queries)
        for reason, rejected in reading.rejects:
            where = f"note {note.note_id}"
            rejects.append(Reject(reason, where, as_json({"note_id": note.note_id, "reply": rejected})))
        missing += reading.missing
        pairs += [
            {
                "query": pair.query,
                "positive": passage_input(note.title, pair.passage),
                "query_type": pair.query_type,
                "passage_id": content_id(note.title, pair.passage),
                "note_id": note.note_id,
                "evidence": pair.evidence,
                "generator": model,
                "prompt_version": prompt.version,
                "source": note.source,
                "license": note.license,
            }
            for pair in reading.pairs
        ]
    return pairs, rejects, missing


def passages_of(notes: list[Note]) -> list[Row]:
    """The corpus: the passages of all notes; of several with the same title and text the first."""
    corpus: dict[str, Row] = {}
    for note in notes:
        for passage in note.passages:
            passage_id = content_id(note.title, passage)
            row = {"passage_id": passage_id, "note_id": note.note_id, "text": passage, "title": note.title}
            corpus.setdefault(passage_id, {**row, "source": note.source, "license": note.license})
    return list(corpus.values())


# ---- who answers -----------------------------------------------------------------------------------------------------


def _options(recipe: DatasetRecipe) -> Generate:
    if recipe.generate is None:
        raise InputError.of("the recipe has no section `generate`", recipe.name)
    return recipe.generate


def _journal(options: Generate, run: Run) -> Journal:
    """The run's own journal where servers are asked; the recorded one, only read, where none is."""
    return Journal(run.folder / "journal.jsonl") if options.endpoints else Journal(_recorded(options), read_only=True)


def _recorded(options: Generate) -> Path:
    path = Path(options.recorded or "")
    if not path.is_file():
        raise InputError.of("is no journal of recorded replies", str(path), "Name one, or pass `--endpoint URL`.")
    return path


def _author(journal: Journal) -> str:
    """The one model that wrote a recorded journal."""
    if len(journal.models) != 1:
        what = f"holds replies of {len(journal.models)} models, not of one"
        raise InputError.of(what, str(journal.path), "Pass `--endpoint URL` to ask a server.")
    return next(iter(journal.models))


def _silence_is_told(notes: list[Note], prompt: Prompt, journal: Journal, model: str) -> None:
    """Raise unless every request has ended: the output would lack notes that only need to be asked about again."""
    silent = sum(prompt.request(note).key(model) not in journal for note in notes)
    what = f"{silent:,} of {len(notes):,} requests have no answer"
    if silent and prompt.options.endpoints:
        mend = "The others are kept: the same command asks only these again, and rejects those that fail once more."
        raise RunError.of(what, str(journal.path), mend)
    if silent:
        mend = "Notes, prompt or settings differ from when it was recorded. Pass `--endpoint URL` to ask a server."
        raise InputError.of(what, str(journal.path), mend)


def _none_left_is_told(rows: list[Any], kind: str, rejects: list[Reject], run: Run) -> None:
    if not rows:
        run.write_rejects("generate", rejects)
        where = str(run.path("generate", "rejects.parquet"))
        raise RunError.of(f"no {kind} is left: all {len(rejects):,} rows are rejected", where, "It says why of each.")
