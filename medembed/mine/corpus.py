"""What is mined from and for: the passages and the pairs as columns, with numbers in place of what is only ever compared.

Texts stay in Arrow and become Python's one at a time; equal texts (case, white space and punctuation aside) have equal numbers, and so
have equal notes. So memory holds each passage once, as bytes, and who may not be whose negative is arithmetic over arrays.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medembed import tables
from medembed.errors import InputError
from medembed.retrieval.embeddings import Integers
from medembed.rows import Reject, as_json, fold, passage_input


class Texts(Sequence[str]):
    """Texts of an Arrow column."""

    def __init__(self, column: pa.Array) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> "Texts": ...
    def __getitem__(self, at: int | slice) -> "str | Texts":
        if isinstance(at, slice):
            return Texts(self.column[at])
        text: str = self.column[int(at)].as_py()
        return text

    def plus(self, more: list[str]) -> "Texts":
        return Texts(pa.concat_arrays([self.column, pa.array(more, self.column.type)]))

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self.column), tables.GROUP):
            yield from self.column.slice(start, tables.GROUP).to_pylist()


@dataclass(frozen=True)
class Corpus:
    """P passages, each once."""

    ids: pa.Array  # (P,) strings
    texts: Texts  # (P,), title and text, as they are embedded
    text_numbers: Integers  # (P,) equal for texts that are equal when folded
    notes: Texts  # the distinct notes
    note_numbers: Integers  # (P,) rows of `notes`

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Pairs:
    """Q pairs of all splits together: an answer known in one split is no negative in another."""

    queries: Texts  # (Q,)
    query_numbers: Integers  # (Q,) equal for queries that are equal when folded
    positives: Integers  # (Q,) rows of the corpus
    note_ids: Texts  # (Q,)
    split_names: list[str]
    splits: Integers  # (Q,) rows of `split_names`

    def __len__(self) -> int:
        return len(self.queries)

    def with_answers(self, rows: Integers, passages: Integers, corpus: Corpus) -> "Pairs":
        """These pairs, and behind them the queries `rows` (N,) once more, with `passages` (N,) of the corpus for positives."""

        def more(here: Integers, there: Integers) -> Integers:
            return np.concatenate([here, there])

        return Pairs(
            queries=self.queries.plus([self.queries[row] for row in rows]),
            query_numbers=more(self.query_numbers, self.query_numbers[rows]),
            positives=more(self.positives, passages),
            note_ids=self.note_ids.plus([corpus.notes[corpus.note_numbers[passage]] for passage in passages]),
            split_names=self.split_names,
            splits=more(self.splits, self.splits[rows]),
        )


def read_corpus(path: Path) -> Corpus:
    """The passages of a table of `rows.CORPUS`; of several rows with one id the first.

    Raises:
        InputError: two passages have one id and different texts.
    """
    ids, notes, texts, hashes = [], [], [], []
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(tables.GROUP, columns=["passage_id", "note_id", "title", "text"]):
            columns = batch.to_pydict()
            joined = list(map(passage_input, columns["title"], columns["text"]))
            texts.append(pa.array(joined, pa.large_string()))
            hashes.append(hashes_of(joined))
            ids.append(batch.column("passage_id"))
            notes.append(batch.column("note_id"))
    every_id = pa.chunked_array(ids, pa.string()).combine_chunks()
    every_note = pa.chunked_array(notes, pa.string()).combine_chunks().dictionary_encode()
    every_text = pa.chunked_array(texts, pa.large_string()).combine_chunks()
    numbers = np.unique(np.concatenate([np.empty(0, np.uint64), *hashes]), return_inverse=True)[1]
    note_numbers = np.asarray(every_note.indices, np.int64)
    first = _first_of_each(every_id, numbers, path)
    if len(first) < len(every_id):
        every_id, every_text = every_id.take(first), every_text.take(first)
        numbers, note_numbers = numbers[first], note_numbers[first]
    return Corpus(every_id, Texts(every_text), numbers, Texts(every_note.dictionary), note_numbers)


def read_pairs(paths: dict[str, Path], corpus: Corpus) -> tuple[Pairs, list[Reject]]:
    """The pairs of all splits (split → table of `rows.PAIRS`); rejects for those whose positive is no passage of the corpus."""
    parts = [pq.read_table(path, columns=["query", "passage_id", "note_id"]) for path in paths.values()]
    table = pa.concat_tables(parts)
    splits = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    known = pc.is_in(table["passage_id"], value_set=corpus.ids)
    missing = table.filter(pc.invert(known)).to_pylist()
    rejects = [
        Reject(
            "the positive is no passage of the corpus",
            f"note {row['note_id']}, passage {row['passage_id']}",
            as_json(row),
        )
        for row in missing
    ]
    table = table.filter(known)
    queries = Texts(table["query"].cast(pa.large_string()).combine_chunks())
    pairs = Pairs(
        queries=queries,
        query_numbers=np.unique(hashes_of(queries), return_inverse=True)[1],
        positives=np.asarray(pc.index_in(table["passage_id"], value_set=corpus.ids).combine_chunks(), np.int64),
        note_ids=Texts(table["note_id"].combine_chunks()),
        split_names=list(paths),
        splits=splits[np.asarray(known, dtype=bool)],
    )
    return pairs, rejects


def same_as(texts: Texts) -> Integers:
    """For each text the row in which it stands first, to the letter."""
    numbers = np.asarray(texts.column.dictionary_encode().indices, np.int64)
    _, first, back = np.unique(numbers, return_index=True, return_inverse=True)
    return first[back]


def hashes_of(texts: Iterable[str]) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    """64 bits for each text, the same for texts that are equal when folded."""
    digests = (hashlib.blake2b(fold(text).encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), dtype="<u8")


def _first_of_each(ids: pa.Array, texts: Integers, path: Path) -> Integers:
    """The first row of each id. One id is one text, else nobody can say which passage a triplet means."""
    numbers = np.asarray(ids.dictionary_encode().indices, np.int64)
    first = np.unique(numbers, return_index=True)[1]
    if clashes := int((texts != texts[first][numbers]).sum()):
        what = f"{clashes} passages have the id of another one with a different text"
        raise InputError.of(what, str(path), "Ids name contents: run `curate` again.")
    return np.sort(first)
