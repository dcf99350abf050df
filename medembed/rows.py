"""The rows that stages hand to each other, as Arrow schemas, and the ids that name them.

Ids are content hashes: the same text gives the same id on every machine. Writer, reader and tests use these schemas alike.
"""

import hashlib
import json
import re
import unicodedata
from typing import Any, NamedTuple

import pyarrow as pa

_TEXT = pa.string()

CORPUS = pa.schema(
    [(name, _TEXT) for name in ("passage_id", "note_id", "text", "title", "source", "license")],
)
PAIRS = pa.schema(
    [
        (name, _TEXT)
        for name in (
            "query",
            "positive",
            "query_type",
            "passage_id",
            "note_id",
            "evidence",
            "generator",
            "prompt_version",
            "source",
            "license",
        )
    ]
    + [("retriever_rank", pa.int32()), ("retriever_score", pa.float32()), ("reranker_score", pa.float32())],
)
REJECTS = pa.schema([("reason", _TEXT), ("where", _TEXT), ("row", _TEXT)])


class Reject(NamedTuple):
    """A row that cannot be used: why, where it stands (`file:row` from 1, or ids), and what it holds, as JSON: for the author alone."""

    reason: str
    where: str
    row: str


def triplets_schema(negatives: int) -> pa.Schema:
    """The schema of triplets with `negatives` hard negatives a row."""
    return pa.schema(
        [("query", _TEXT), ("positive", _TEXT)]
        + [(f"negative_{i}", _TEXT) for i in range(1, negatives + 1)]
        + [
            ("positive_score", pa.float32()),
            ("negative_scores", pa.list_(pa.float32())),
            ("positive_teacher_score", pa.float32()),
            ("negative_teacher_scores", pa.list_(pa.float32())),
            ("passage_id", _TEXT),
            ("note_id", _TEXT),
            ("negative_ids", pa.list_(_TEXT)),
        ]
    )


def content_id(*parts: str) -> str:
    """The id of a content: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def as_json(value: Any) -> str:
    """A row as JSON, whatever it holds; what Unicode cannot encode becomes a question mark."""
    try:
        return encodable(json.dumps(value, ensure_ascii=False, default=str))
    except RecursionError:
        return '"nested too deeply to be written"'


def encodable(text: str) -> str:
    """`text` without lone surrogates, which JSON can express and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def passage_input(title: str | None, text: str) -> str:
    """What an embedding model is given for a passage: title and text, joined as mteb joins them."""
    return f"{title or ''} {text}".strip()


def fold(text: str) -> str:
    """`text` for comparison: Unicode-normalised (NFKC), case-folded, white space and punctuation collapsed to one space."""
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()


def shingles(text: str) -> frozenset[str]:
    """The word 3-grams of a folded text; of one with fewer words the words together; of one without any the text itself."""
    words = fold(text).split()
    return frozenset(" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))) if words else frozenset([text])


_SAME = str.maketrans(
    {"‘": "'", "’": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "–": "-", "—": "-", "‑": "-", "−": "-", "\xa0": " "}
)


def plain_quotes(text: str) -> str:
    """`text` with typographic quotes and dashes made plain, character by character: what stands where stays where it is."""
    return text.translate(_SAME)


def fold_quotes(text: str) -> str:
    """`text` with typographic quotes, dashes and white space made plain; all else stays, so that a span can be called verbatim."""
    return " ".join(plain_quotes(text).split())


def stands_in(span: str, text: str) -> bool:
    """Whether `span` stands in `text` verbatim, white space and typographic quotes aside."""
    span = fold_quotes(span)
    return bool(span) and span in fold_quotes(text)
