"""Pairs → clean pairs. Generated and labelled pairs come in; those that pass the recipe's filters go out, split by note.

A filter is a function from a row to a reason to reject it, or None. Whatever is rejected is kept with its reason.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from medembed.errors import RunError
from medembed.recipe import DatasetRecipe, Filter, Length, Split
from medembed.recipe import Pairs as PairsSource
from medembed.rows import CORPUS, PAIRS, Reject, as_json, content_id, fold, passage_input, stands_in
from medembed.run import Record, Run
from medembed.sources import read_rows, source_hash

Row = dict[str, Any]
Check = Callable[[Row], str | None]


def inputs(recipe: DatasetRecipe, run: Run) -> tuple[Any, Any]:
    said = recipe.model_dump(mode="json", include={"pairs", "curate", "split"})
    for source in said["pairs"]:
        source["source"] = source["source"].rsplit("/", 1)[-1]  # the hash below says which file; its folder may move
    generated = run.finished("generate").outputs if recipe.generate else {}
    return said, {"generate": generated, "pairs": [source_hash(source) for source in recipe.pairs]}


def work(recipe: DatasetRecipe, run: Run) -> Record:
    pairs, corpus, rejects = _gather(recipe, run)
    record = Record("curate", counts={"pairs in": len(pairs) + len(rejects)})
    for each in recipe.curate:
        pairs, rejected = apply(each, pairs)
        rejects += rejected
    splits = {
        name: [row for row in pairs if split_of(row["note_id"], recipe.split) == name] for name in ("train", "dev")
    }

    run.write("curate", "corpus", pa.Table.from_pylist(list(corpus.values()), schema=CORPUS))
    for name, rows in splits.items():
        if rows:
            run.write("curate", f"pairs-{name}", pa.Table.from_pylist(rows, schema=PAIRS))
    record.rejects = run.write_rejects("curate", rejects)
    if not splits["train"]:
        mend = "rejects.parquet there says what each filter took."
        raise RunError.of("no pair is left for training", str(run.path("curate")), mend)
    record.counts |= {
        "pairs": len(pairs),
        "train": len(splits["train"]),
        "dev": len(splits["dev"]),
        "passages": len(corpus),
    }
    return record


def _gather(recipe: DatasetRecipe, run: Run) -> tuple[list[Row], dict[str, Row], list[Reject]]:
    """All pairs, the passages by id (those of notes, then the positives of labelled pairs), and the rows that could not be read."""
    pairs: list[Row] = []
    corpus: dict[str, Row] = {}
    rejects: list[Reject] = []
    if recipe.generate:
        pairs += run.read("generate", "pairs").to_pylist()
        corpus = {row["passage_id"]: row for row in run.read("generate", "corpus").to_pylist()}
    for source in recipe.pairs:
        for row in read_rows(source):
            if isinstance(row, Reject):
                rejects.append(row)
                continue
            pair, passage = labelled(row, source)
            pairs.append(pair)
            corpus.setdefault(passage["passage_id"], passage)
    return pairs, corpus, rejects


def labelled(row: Row, source: PairsSource) -> tuple[Row, Row]:
    """A user's own pair → a row of `pairs` and the row of `corpus` that is its positive."""
    title, text = (row.get("title") or "").strip(), row["positive"].strip()
    passage_id = content_id(title, text)
    # Pairs of one document must not be torn apart by the split; without a column that names it, the positive stands for it.
    note_id = content_id(str(row["note_id"])) if row.get("note_id") else passage_id
    origin = {"source": row["source"], "license": row["license"]}
    passage = {"passage_id": passage_id, "note_id": note_id, "text": text, "title": title, **origin}
    pair = {
        "query": row["query"].strip(),
        "positive": passage_input(title, text),
        "query_type": row.get("query_type") or "labelled",
        "passage_id": passage_id,
        "note_id": note_id,
        "evidence": row.get("evidence"),
        "generator": None,
        "prompt_version": None,
        **origin,
    }
    return pair, passage


# ---- filters ---------------------------------------------------------------------------------------------------------


def apply(setting: Filter, rows: list[Row]) -> tuple[list[Row], list[Reject]]:
    """The rows that one filter keeps, and the rejects that it makes of the others."""
    check = _check(setting)
    kept: list[Row] = []
    rejects: list[Reject] = []
    for row in rows:
        if reason := check(row):
            where = f"note {row['note_id']}, passage {row['passage_id']}"
            rejects.append(Reject(reason, where, as_json(row)))
        else:
            kept.append(row)
    return kept, rejects


def _check(setting: Filter) -> Check:
    if setting.duplicates:
        return no_duplicates(normalised=setting.duplicates.normalised)
    if setting.length:
        return fitting_length(setting.length)
    return evidence_in_positive


def evidence_in_positive(row: Row) -> str | None:
    """Evidence, where a pair has it, stands in the positive verbatim (white space and typographic quotes aside)."""
    missing = row["evidence"] is not None and not stands_in(row["evidence"], row["positive"])
    return "evidence not in the positive" if missing else None


def no_duplicates(*, normalised: bool) -> Check:
    """A check that rejects every pair whose query and positive it has seen before, to the letter or as folded text."""
    seen: set[bytes] = set()

    def check(row: Row) -> str | None:
        texts = (row["query"], row["positive"])
        key = hashlib.sha256("\x1f".join(map(fold, texts) if normalised else texts).encode()).digest()
        if key in seen:
            return "duplicate"
        seen.add(key)
        return None

    return check


def fitting_length(limits: Length) -> Check:
    """A check of the number of words in query and positive."""

    def check(row: Row) -> str | None:
        for name, (least, most) in (("query", limits.query), ("positive", limits.positive)):
            words = len(row[name].split())
            if not least <= words <= most:
                return f"{name} too {'short' if words < least else 'long'}"
        return None

    return check


def split_of(note_id: str, split: Split) -> str:
    """`train` or `dev`: decided by the note's id alone, so that no other note can change it."""
    draw = int(hashlib.sha256(f"{split.seed}:{note_id}".encode()).hexdigest()[:8], 16) / 16**8
    return "dev" if draw < split.dev else "train"
