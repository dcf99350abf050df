"""A local BEIR folder: `corpus.jsonl`, `queries.jsonl` and `qrels/*.tsv` in, a `Beir` out, or every fault at once.

The judgments decide what is asked: as in every BEIR data set, a query that they do not name belongs to another split.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medembed.errors import Fault, InputError
from medembed.rows import content_id
from medembed.run import sha256

QRELS_HEADER = ["query-id", "corpus-id", "score"]

Spots = dict[tuple[Path, str], list[int]]
"""What is wrong in a file → the lines where it is so."""


@dataclass(frozen=True)
class Beir:
    passages: dict[str, tuple[str, str]]  # id → title, text
    queries: dict[str, str]  # id → text, of the judged queries
    judgments: dict[str, dict[str, int]]  # query id → passage id → grade; 0 is not relevant
    unjudged: int  # queries that no judgment names
    notes: dict[str, str]  # query id → the note that it is about (`metadata.note_id`), where queries.jsonl says it


def read(folder: Path) -> Beir:
    """Read and check the BEIR folder.

    Raises:
        InputError: with one fault for each file and kind of mistake: the first line of it, and how many follow.
    """
    corpus_file, queries_file, qrels_file = files(folder)
    spots: Spots = defaultdict(list)
    passages = _texts(corpus_file, spots)
    notes: dict[str, str] = {}
    queries = _texts(queries_file, spots, empty="the text of a query is empty", notes=notes)
    judgments = _judgments(qrels_file, spots)
    faults = [_fault(path, what, lines) for (path, what), lines in spots.items()]
    faults += [
        Fault("is empty", str(path))
        for path, rows in ((corpus_file, passages), (queries_file, queries), (qrels_file, judgments))
        if not rows and not any(found == path for found, _ in spots)
    ]
    faults += _disagreements(qrels_file, passages, queries, judgments)
    if faults:
        raise InputError(*faults)
    judged = {query_id: queries[query_id][1] for query_id in queries if query_id in judgments}
    return Beir(passages, judged, judgments, len(queries) - len(judged), notes)


def files(folder: Path) -> tuple[Path, Path, Path]:
    """The files of passages, queries and judgments; those of `test`, where there are judgments of several splits.

    Raises:
        InputError: one or several are missing.
    """
    corpus, queries, qrels = folder / "corpus.jsonl", folder / "queries.jsonl", folder / "qrels" / "test.tsv"
    if not qrels.is_file() and len(splits := sorted(qrels.parent.glob("*.tsv"))) == 1:
        qrels = splits[0]
    if missing := [path for path in (corpus, queries, qrels) if not path.is_file()]:
        mend = "A BEIR folder holds corpus.jsonl, queries.jsonl and qrels/test.tsv."
        raise InputError(*(Fault("there is no such file", str(path), mend) for path in missing))
    return corpus, queries, qrels


def content_hash(folder: Path) -> str:
    """The identity of the folder's content: the same bytes give the same hash on every machine."""
    return content_id(*(sha256(path) for path in files(folder)))


def _texts(
    path: Path, spots: Spots, empty: str = "", notes: dict[str, str] | None = None
) -> dict[str, tuple[str, str]]:
    """Rows `{"_id", "title", "text"}` as id → (title, text); an empty text is wrong where `empty` says so.

    Where a row's `metadata` has a `note_id`, it is put into `notes`.
    """
    texts: dict[str, tuple[str, str]] = {}
    for number, line in _lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # RecursionError: thousands of nested brackets
            spots[path, "is not JSON"].append(number)
            continue
        wrong = _wrong_in(row) or (empty if empty and not row["text"].strip() else "")
        if not wrong and row["_id"] in texts:
            wrong = "the `_id` stands on an earlier line, too"
        if wrong:
            spots[path, wrong].append(number)
        else:
            texts[row["_id"]] = (row.get("title") or "", row["text"])
            if notes is not None and (note := _note_of(row)) is not None:
                notes[row["_id"]] = note
    return texts


def _wrong_in(row: object) -> str:
    if not isinstance(row, dict):
        return "is not a JSON object"
    if missing := [f"`{key}`" for key in ("_id", "text") if key not in row]:
        return f"lacks {' and '.join(missing)}"
    if not isinstance(row["_id"], str) or not row["_id"].isprintable() or not row["_id"]:
        return "`_id` is not a text of printable characters"
    if not all(_is_text(value) for value in (row["text"], row.get("title") or "")):
        return "`text` or `title` is not a text"
    if not _is_text(_note_of(row) or ""):
        return "`metadata.note_id` is not a text"
    return ""


def _note_of(row: dict[str, Any]) -> Any:
    metadata = row.get("metadata")
    return metadata.get("note_id") if isinstance(metadata, dict) else None


def _is_text(value: object) -> bool:
    """Whether `value` is a text that UTF-8 can write: JSON can spell halves of surrogate pairs, Arrow cannot hold them."""
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)


def _judgments(path: Path, spots: Spots) -> dict[str, dict[str, int]]:
    judgments: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        fields = line.decode("utf-8", errors="replace").rstrip("\r\n").split("\t")
        if number == 1:
            if fields != QRELS_HEADER:
                spots[path, f"the first line is not the header {', '.join(QRELS_HEADER)}, parted by tabs"].append(1)
        elif len(fields) != 3:
            spots[path, "is not three columns, parted by tabs"].append(number)
        elif not re.fullmatch("[0-9]{1,4}", fields[2]):
            spots[path, "the score is not a whole number, 0 or more"].append(number)
        elif fields[1] in judgments.setdefault(fields[0], {}):
            spots[path, "judges the same query and passage as an earlier line"].append(number)
        else:
            judgments[fields[0]][fields[1]] = int(fields[2])
    return judgments


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that hold something, with their numbers from 1; as bytes, so that one broken line is but one fault."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line


def _fault(path: Path, what: str, lines: list[int]) -> Fault:
    count = f" ({len(lines)} lines in all)" if len(lines) > 1 else ""
    return Fault(what + count, f"{path}:{lines[0]}")


def _disagreements(
    path: Path,
    passages: dict[str, tuple[str, str]],
    queries: dict[str, tuple[str, str]],
    judgments: dict[str, dict[str, int]],
) -> Iterator[Fault]:
    """What the judgments say of queries and passages that cannot be so."""
    judged = dict.fromkeys(passage_id for grades in judgments.values() for passage_id in grades)
    ids = {
        "judges queries that queries.jsonl lacks": [i for i in judgments if i not in queries],
        "judges passages that corpus.jsonl lacks": [i for i in judged if i not in passages],
        "leaves queries without a relevant passage": [i for i, grades in judgments.items() if not any(grades.values())],
    }
    for what, found in ids.items():
        if found:
            yield Fault(f"{what}: {len(found)} ({', '.join(found[:3])}{' …' if len(found) > 3 else ''})", str(path))
