"""Texts → embeddings as mteb asks for them; what a model has made of a text once is read from disk from then on.

Embeddings are kept in fp32 (scores are those of mteb) by what made them: the model's revision and settings, the prompt, the text. So
another metric, another task with the same passages and a killed run encode nothing twice.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from medembed.errors import RunError
from medembed.retrieval import kept, together
from medembed.retrieval.batches import encoded
from medembed.retrieval.embeddings import autocast, distinct_texts, precision_of
from medembed.rows import content_id

if TYPE_CHECKING:
    from typing import TypeAlias

    from sentence_transformers import MultiVectorEncoder, SentenceTransformer, SparseEncoder

    Encoder: TypeAlias = SentenceTransformer | MultiVectorEncoder | SparseEncoder

Side = Literal["query", "document", ""]
Floats = np.ndarray[Any, np.dtype[np.float32]]
Keys = np.ndarray[Any, np.dtype[np.uint64]]

BLOCK = 256  # texts: what a kill may cost, and the share of a process
FORM = ("batch_size", "show_progress_bar", "convert_to_numpy", "convert_to_tensor", "device")  # decide no number


class Remembering:
    """A model of sentence-transformers, as mteb encodes with it; all else that it has (similarity, prompts, device) is the model's own."""

    def __init__(self, model: "Encoder", made_by: Any, named: Any, cache: Path, batch_size: int) -> None:
        """`made_by`: all that identifies the model and how it encodes, as JSON can say it. `named`: what other processes `load` it by."""
        self._model, self._made_by, self._named = model, made_by, named
        self._cache, self._batch_size = cache, batch_size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    @property
    def plain(self) -> "Encoder":
        """The model itself, which remembers nothing."""
        return self._model

    def encode(self, inputs: Sequence[str], **settings: Any) -> Any:
        return self._embeddings("", inputs, settings)

    def encode_query(self, inputs: Sequence[str], **settings: Any) -> Any:
        return self._embeddings("query", inputs, settings)

    def encode_document(self, inputs: Sequence[str], **settings: Any) -> Any:
        return self._embeddings("document", inputs, settings)

    def _embeddings(self, side: Side, texts: Sequence[str], settings: dict[str, Any]) -> Any:
        """As the model itself gives them: (N, D) dense or sparse, or a list of (tokens, D)."""
        said = {name: value for name, value in sorted(settings.items()) if name not in FORM and value is not None}
        made_by = content_id(json.dumps([self._made_by, str(precision_of(self._model)), side, said], default=str))
        work = Work(self._named, side, said, self._cache / made_by, self._batch_size)
        rows = Shelf(work.cache)
        keys = keys_of(texts)
        while len(missing := rows.missing(keys)):
            together.share(work, self._model, distinct_texts([texts[i] for i in missing])[0])
            rows = Shelf(work.cache)
        found = rows.take(keys)
        if found is None:  # a block was damaged and is gone: make it again
            return self._embeddings(side, texts, settings)
        as_tensors = not isinstance(found, np.ndarray) or settings.get("convert_to_tensor")
        return _tensors(found) if as_tensors else found


class Work(NamedTuple):
    """What all processes are told of an encoding: a `together.Job`."""

    named: Any  # by which other processes `load` the model
    side: Side
    settings: dict[str, Any]
    cache: Path
    batch_size: int

    @property
    def block(self) -> int:
        return BLOCK

    @property
    def what(self) -> str:
        return self.side or "text"

    def make(self, model: Any, texts: list[str]) -> None:
        """Encode one block of distinct texts and write it, unless it stands."""
        path = kept.place(self.cache, texts, "keys")
        if kept.read(path) is not None:
            return
        method = {"query": "encode_query", "document": "encode_document", "": "encode"}[self.side]
        with autocast(precision_of(model)):
            rows = [_row(made) for made in encoded(model, method, texts, self.batch_size, **self.settings)]
        if not all(np.isfinite(row.values).all() for row in rows):
            raise RunError.of("the model gives embeddings that are not finite", mend="Choose another one.")
        kept.write(path.with_suffix(".rows"), _written(rows))
        kept.write(path, keys_of(texts).tobytes())


class Row(NamedTuple):
    """What a model makes of one text: (D,), or (tokens, D); sparse when `columns` says where the values stand of `width` columns."""

    values: Floats
    columns: "np.ndarray[Any, np.dtype[np.int32]] | None" = None
    width: int = 0


class Shelf:
    """The blocks of embeddings in a folder. Only their keys are in memory."""

    def __init__(self, folder: Path) -> None:
        self._blocks = sorted(folder.glob("*.keys"))
        bodies = [kept.read(path) or b"" for path in self._blocks]
        sizes = [len(body) // 8 for body in bodies]
        self._keys = np.frombuffer(b"".join(bodies), np.uint64)
        self._block = np.repeat(np.arange(len(sizes)), sizes)
        self._row = np.concatenate([np.arange(size) for size in sizes]) if sizes else np.empty(0, np.int64)

    @cached_property
    def _order(self) -> "np.ndarray[Any, np.dtype[np.int64]]":
        return np.argsort(self._keys, kind="stable")

    def missing(self, keys: Keys) -> "np.ndarray[Any, np.dtype[np.int64]]":
        """Which of `keys` no block has."""
        return np.flatnonzero(~np.isin(keys, self._keys))

    def take(self, keys: Keys) -> "Floats | list[Row] | None":
        """The embeddings of `keys`, all of which are there: (N, D) of dense ones; none when a block turns out to be damaged."""
        at = self._order[np.searchsorted(self._keys, keys, sorter=self._order)]  # (N,) which of all rows
        blocks = self._block[at]
        dense: Floats | None = None
        rows: list[Row] = [Row(np.empty(0, np.float32))] * len(keys)
        for number in np.unique(blocks):
            if (body := kept.read(self._blocks[number].with_suffix(".rows"))) is None:
                self._blocks[number].unlink()
                return None
            block, here = pa.ipc.open_stream(body).read_all(), np.flatnonzero(blocks == number)
            if block.schema.metadata[b"kind"] == b"dense":
                width = int(block.schema.metadata[b"width"])
                values = block["values"].combine_chunks().values.to_numpy().reshape(-1, width)
                dense = np.empty((len(keys), width), np.float32) if dense is None else dense
                dense[here] = values[self._row[at[here]]]
            else:
                for i, row in zip(here, _read(block, self._row[at[here]]), strict=True):
                    rows[i] = row
        return rows if dense is None else dense


def keys_of(texts: Sequence[str]) -> Keys:
    """64 bits of each text's hash: among ten million texts two agree with a probability of 3 in a million."""
    digests = (hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), np.uint64)


# ---- the form on disk ------------------------------------------------------------------------------------------------


def _row(made: Any) -> Row:
    """What `encode` gave for one text."""
    import torch

    if isinstance(made, torch.Tensor) and made.is_sparse:
        sparse = made.coalesce().cpu()
        return Row(sparse.values().float().numpy(), sparse.indices()[0].to(torch.int32).numpy(), sparse.shape[0])
    values = made.detach().float().cpu().numpy() if isinstance(made, torch.Tensor) else made
    return Row(np.asarray(values, np.float32))


def _written(rows: list[Row]) -> bytes:
    first = rows[0]
    kind = "sparse" if first.columns is not None else "dense" if first.values.ndim == 1 else "late"
    table = {"values": pa.array([row.values.ravel() for row in rows], pa.large_list(pa.float32()))}
    if kind == "sparse":
        table["columns"] = pa.array([row.columns for row in rows], pa.large_list(pa.int32()))
    width = first.width if kind == "sparse" else first.values.shape[-1]
    made = pa.table(table).replace_schema_metadata({"kind": kind, "width": str(width)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, made.schema) as writer:
        writer.write_table(made)
    return bytes(sink.getvalue())


def _read(block: pa.Table, numbers: "np.ndarray[Any, np.dtype[np.int64]]") -> Iterator[Row]:
    width, taken = int(block.schema.metadata[b"width"]), block.take(numbers)
    for i in range(len(taken)):
        values = taken["values"][i].values.to_numpy().copy()
        if "columns" in taken.column_names:
            yield Row(values, taken["columns"][i].values.to_numpy().copy(), width)
        else:
            yield Row(values.reshape(-1, width))


def _tensors(found: "Floats | list[Row]") -> Any:
    """One tensor of dense or of sparse embeddings; a list of tensors of late interaction."""
    import torch

    if isinstance(found, np.ndarray):
        return torch.from_numpy(found)
    if not found or found[0].columns is None:
        return [torch.from_numpy(row.values) for row in found]
    counts = [len(row.values) for row in found]
    indices = np.stack([np.repeat(np.arange(len(found)), counts), np.concatenate([row.columns for row in found])])
    values = torch.from_numpy(np.concatenate([row.values for row in found]))
    return torch.sparse_coo_tensor(torch.from_numpy(indices), values, (len(found), found[0].width)).coalesce()
