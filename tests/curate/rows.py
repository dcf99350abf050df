"""Rows of pairs and passages, and one filter run over them as the stage runs it."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medembed import curate, tables
from medembed.curate.sieve import Sieve, Stored
from medembed.curate.sifting import account, left, rejects_of, sift
from medembed.recipe import Filter
from medembed.rows import CORPUS, PAIRS, content_id, encodable

Row = dict[str, Any]


def pair(query: str, text: str, *, note: str | None = None, evidence: str | None = None) -> Row:
    query, text = encodable(query), encodable(text)
    passage_id = content_id("", text)
    return {
        "query": query,
        "positive": text,
        "query_type": "labelled",
        "passage_id": passage_id,
        "note_id": note or passage_id,
        "evidence": evidence,
        "generator": None,
        "prompt_version": None,
        "source": "pairs.jsonl",
        "license": "mit",
        "retriever_rank": None,
        "retriever_score": None,
        "reranker_score": None,
    }


def passage_of(row: Row) -> Row:
    return {
        "passage_id": row["passage_id"],
        "note_id": row["note_id"],
        "text": row["positive"],
        "title": "",
        "source": row["source"],
        "license": row["license"],
    }


@dataclass
class Sifted:
    pairs: list[Row]
    passages: list[Row]
    reasons: list[str]  # in the order of the rejects: passages first
    rejects: list[Row]
    account: Row

    @property
    def rejected_pairs(self) -> list[Row]:
        return [row for row in self.rejects if "query" in row]


def sifted(setting: Any, pairs: list[Row], passages: list[Row] | None = None) -> Sifted:
    """A filter over pairs and their passages (the positives, each once), with what it leaves and rejects."""
    made = setting if isinstance(setting, Sieve) else None
    each = None if made else Filter.model_validate(setting)
    if passages is None:
        passages = list({row["passage_id"]: passage_of(row) for row in pairs}.values())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stored = store(folder / "0", pairs, passages)
        sift(lambda stored: made or curate._sieve(each, stored), stored, folder / "1")
        after = left([folder / "0", folder / "1"], stored.cache)
        rejects = list(rejects_of(folder / "1"))
        return Sifted(
            list(after.pairs()),
            list(after.passages()),
            [reject.reason for reject in rejects],
            [json.loads(reject.row) for reject in rejects],
            account(folder / "1"),
        )


def store(folder: Path, pairs: list[Row], passages: list[Row]) -> Stored:
    for name, schema, rows in (("pairs", PAIRS, pairs), ("passages", CORPUS, passages)):
        with tables.writing(folder / f"{name}.parquet", schema) as add:
            for row in rows:
                add(row)
    return Stored(folder / "pairs.parquet", folder / "passages.parquet", folder / "cache", folder)
