"""Texts → embeddings on disk: each distinct text once, longest first, in blocks of fp16.

A block is made by model, prompt, length, precision and texts, and kept under the hash of these (`kept`): a killed run goes on from the
last whole block, in any number of processes.
"""

import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medembed.errors import RunError
from medembed.retrieval import kept
from medembed.retrieval.batches import encoded

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Floats = np.ndarray[Any, np.dtype[np.float32]]
Embeddings = np.ndarray[Any, np.dtype[np.float16]]
Integers = np.ndarray[Any, np.dtype[np.int64]]
Side = Literal["query", "document"]

BLOCK = 2048  # texts
GRID = 2048  # embeddings are whole multiples of 1 / GRID, see `on_grid`


def encode(
    model: "SentenceTransformer",
    revision: str,
    texts: "Sequence[str] | pa.Array | pa.ChunkedArray",
    side: Side,
    cache: Path,
    batch_size: int,
) -> Embeddings:
    """Unit-length embeddings of `texts`, (N, D) in fp16 on disk, memory-mapped; each distinct text is encoded once.

    `revision` identifies the model's weights; `side` says whether its query or its document prompt is used. The values lie on a
    grid (`on_grid`): multiply them in fp32 (`scores_at`, `search`), never in fp16.

    Raises:
        RunError: the model gives numbers that are none (NaN, infinity).
    """
    if not len(texts):
        return np.empty((0, model.get_embedding_dimension() or 0), np.float16)
    from medembed.retrieval import together

    distinct, at = distinct_texts(texts)  # (M,) longest first; (N,) which of them a text is
    together.share(Work(revision, side, batch_size, cache), model, distinct)
    order = np.argsort(at, kind="stable")  # rows of `texts`, in the order of the blocks
    sorted_at = at[order]
    rows: Embeddings | None = None
    for part in blocks(distinct, BLOCK):
        block = embedded(model, revision, distinct[part].to_pylist(), side, cache, batch_size)
        rows = _on_disk(len(texts), block.shape[1], cache) if rows is None else rows
        here = order[slice(*np.searchsorted(sorted_at, (part.start, part.stop)))]
        rows[here] = block[at[here] - part.start]
    assert rows is not None
    return rows


class Work(NamedTuple):
    """What all processes are told of an encoding: a `together.Job`."""

    revision: str
    side: Side
    batch_size: int
    cache: Path

    @property
    def block(self) -> int:
        return BLOCK

    @property
    def what(self) -> str:
        return self.side

    def make(self, model: Any, texts: list[str]) -> None:
        embedded(model, self.revision, texts, self.side, self.cache, self.batch_size)


def blocks(texts: "pa.Array", size: int) -> list[slice]:
    return [slice(start, min(start + size, len(texts))) for start in range(0, len(texts), size)]


def embedded(
    model: "SentenceTransformer", revision: str, block: list[str], side: Side, cache: Path, batch_size: int
) -> Embeddings:
    """The embeddings of one block, (B, D): read where they stand, else made and written."""
    precision = precision_of(model)
    prompts = [model.prompts, model.default_prompt_name, side]
    made_by = [revision, model.max_seq_length, prompts, str(precision), batch_size, GRID, block]
    path = kept.place(cache, made_by, "f16")
    if (body := kept.read(path)) is not None:
        return np.frombuffer(body, np.float16).reshape(len(block), -1)
    with autocast(precision):
        found = on_grid(np.stack(encoded(model, f"encode_{side}", block, batch_size)).astype(np.float32))
    kept.write(path, found.tobytes())
    return found


def on_grid(embeddings: Floats) -> Embeddings:
    """`embeddings` (N, D) at unit length, rounded to multiples of 1 / GRID.

    Products of two such values are multiples of 2⁻²², and every partial sum of them is at most 1.01 (Cauchy–Schwarz): fp32 holds
    it exactly. So a cosine is the same number whatever library, tile, thread count or device adds it up, and equal texts tie
    exactly. Rounding moves a cosine by about 2e-4 (one standard deviation).

    Raises:
        RunError: values that are not finite.
    """
    if not np.isfinite(embeddings).all():
        raise RunError.of("the retriever gives embeddings that are not finite", mend="Choose another one.")
    lengths = np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    rounded: Embeddings = (np.round(embeddings / lengths * GRID) / GRID).astype(np.float16)
    return rounded


def distinct_texts(texts: "Sequence[str] | pa.Array | pa.ChunkedArray") -> "tuple[pa.Array, Integers]":
    """The distinct texts, longest first (so batches are even, and too long ones fail at once), and which of them each text is."""
    if isinstance(texts, pa.Array | pa.ChunkedArray):
        column = texts.cast(pa.large_string())
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    else:
        column = pa.array(texts, pa.large_string())
    encoded = column.dictionary_encode()
    length = pc.utf8_length(encoded.dictionary)
    keys = pa.table({"length": length, "text": encoded.dictionary})
    order = pc.sort_indices(keys, sort_keys=[("length", "descending"), ("text", "ascending")])
    place = np.empty(len(order), np.int64)
    place[order.to_numpy()] = np.arange(len(order))
    return encoded.dictionary.take(order), place[encoded.indices.to_numpy()]


def _on_disk(rows: int, dimensions: int, cache: Path) -> Embeddings:
    """An array in a file without a name, gone with the array. Written in full first: a full disk is an error here, not a crash later."""
    with tempfile.TemporaryFile(dir=cache) as file:
        for start in range(0, rows, BLOCK):
            file.write(bytes(2 * dimensions * min(BLOCK, rows - start)))
        file.flush()
        return np.memmap(file, np.float16, "r+", shape=(rows, dimensions))


def precision_of(model: Any) -> Any:
    """The torch type that the model computes in: half on a GPU, whose fp32 is several times slower."""
    import torch

    if model.device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def autocast(precision: Any) -> AbstractContextManager[Any]:
    import torch

    return nullcontext() if precision == torch.float32 else torch.autocast("cuda", precision)
