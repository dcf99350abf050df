"""The second pass: notes and the journal in; corpus, pairs and rejects out, in the order of the notes, whoever answered in whatever order.

Nothing but notes and journals makes the output: so a run that was killed ends like one that was not, and shards of one job like a whole.
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from medembed.errors import InputError, RunError
from medembed.generate.passages import Note
from medembed.generate.prompt import Prompt
from medembed.generate.replies import Pair, read_reply
from medembed.llm.index import Index
from medembed.llm.journal import Journal
from medembed.llm.outcomes import Reply
from medembed.recipe import Generate
from medembed.rows import CORPUS, PAIRS, Reject, as_json, content_id, passage_input
from medembed.tables import Row, rejecting, writing

_QUOTED = 10_000  # characters of a rejected reply that are kept for the author to read


@dataclass
class Written:
    """What was written, counted."""

    counts: Counter[str] = field(default_factory=Counter)
    query_types: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)  # as the servers counted them
    latencies: "array[float]" = field(default_factory=lambda: array("f"))  # seconds

    def latency(self) -> dict[str, float]:
        """Mean and 95th percentile of the seconds that a reply took."""
        if not (known := sorted(self.latencies)):
            return {}
        mean, slow = math.fsum(known) / len(known), known[math.ceil(0.95 * len(known)) - 1]
        return {"mean": round(mean, 2), "95th percentile": round(slow, 2)}


def write_tables(notes: Iterable[Note | Reject], prompt: Prompt, journal: Journal, model: str, folder: Path) -> Written:
    """Write `corpus.parquet`, `pairs.parquet` and `rejects.parquet`; a passage that several notes have stands once for each of them.

    So it is told to curate, which keeps the first, and looks for the names that any of these notes knows.

    Raises:
        RunError, InputError: a request has no answer, in a journal that is being written or a recorded one; nothing is written then,
            for the output would lack notes that only need to be asked about.
    """
    written, passages, silent = Written(), Index(), 0
    with (
        rejecting(folder / "rejects.parquet") as (reject, written.rejects),
        writing(folder / "corpus.parquet", CORPUS) as add_passage,
        writing(folder / "pairs.parquet", PAIRS) as add_pair,
    ):
        for note in tqdm(notes, desc="write", unit="note", disable=None):
            if isinstance(note, Reject):
                reject(note)
                continue
            written.counts["notes"] += 1
            outcome = journal.outcome(prompt.request(note).key(model))
            silent += outcome is None
            if silent or outcome is None:
                continue
            for row in _corpus(note):
                if passages.add(f"{row['passage_id']} {row['note_id']}"):
                    add_passage(row)
                    written.counts["passages"] += 1
            shown = prompt.shown(note)
            reading = read_reply(outcome, shown, prompt.options.queries)
            for reason, rejected in reading.rejects:
                what = as_json({"note_id": note.note_id, "reply": _quoted(rejected)})
                reject(Reject(reason, f"note {note.note_id}", what))
            for pair in reading.pairs:
                add_pair(_row(pair, note, model, prompt.version))
                written.query_types[pair.query_type] += 1
            written.counts["pairs"] += len(reading.pairs)
            written.counts["pairs not given"] += reading.missing
            written.counts["notes shown in part"] += shown != note.passages
            if isinstance(outcome, Reply):
                written.counts["replies"] += 1
                written.tokens.update(outcome.usage)
                written.latencies.append(outcome.latency)
        _silence_is_told(silent, written.counts["notes"], prompt.options)
    return written


def _corpus(note: Note) -> Iterator[Row]:
    shared = {"note_id": note.note_id, "title": note.title, "source": note.source, "license": note.license}
    for text in note.passages:
        yield {"passage_id": content_id(note.title, text), "text": text, **shared}


def _row(pair: Pair, note: Note, model: str, prompt_version: str) -> Row:
    return {
        "query": pair.query,
        "positive": passage_input(note.title, pair.passage),
        "query_type": pair.query_type,
        "passage_id": content_id(note.title, pair.passage),
        "note_id": note.note_id,
        "evidence": pair.evidence,
        "generator": model,
        "prompt_version": prompt_version,
        "source": note.source,
        "license": note.license,
    }


def _quoted(rejected: Any) -> Any:
    """What was rejected, if it is not endless."""
    text = rejected if isinstance(rejected, str) else as_json(rejected)
    return rejected if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"


def _silence_is_told(silent: int, requests: int, options: Generate) -> None:
    what = f"{silent:,} of {requests:,} requests have no answer"
    if silent and options.endpoints:
        mend = "The others are kept: the same command asks only these again, and rejects those that fail once more."
        raise RunError.of(what, mend=mend)
    if silent:
        mend = "Notes, prompt or settings differ from when it was recorded. Pass `--endpoint URL` to ask a server."
        raise InputError.of(what, options.recorded or "", mend)
