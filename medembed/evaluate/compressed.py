"""What is left of a dense model's quality when its embeddings are stored smaller: cut to fewer dimensions, in int8, or as bits.

In: the float32 embeddings of a task's queries and passages. Out: nDCG@10 for each `Form`. Queries stay float32 and only what an index
keeps of the passages is used, as an index would use it; so the quality told is that of its bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from medembed.evaluate.scores import Judgments, query_scores
from medembed.retrieval.embeddings import Floats, Integers
from medembed.retrieval.search import search

Precision = Literal["float32", "int8", "binary"]

TOP = 10
OVERSAMPLED = 4  # times as many are found by bits alone, and ranked again
BITS = {"float32": 32, "int8": 8, "binary": 1}


@dataclass(frozen=True)
class Form:
    """How a passage's embedding is stored. `rescored`: what is found by bits is ranked again by the float32 query."""

    dimensions: int
    precision: Precision
    rescored: bool = False

    @property
    def bytes(self) -> int:
        """Of one passage."""
        return -(-self.dimensions * BITS[self.precision] // 8)

    @property
    def name(self) -> str:
        return f"{self.precision}, rescored" if self.rescored else self.precision


def forms(dimensions: int, cut: Sequence[int], precisions: Sequence[Precision]) -> list[Form]:
    """All that are measured: each number of dimensions, in float32 and in each of the `precisions`; bits with rescoring and without."""
    sizes = sorted({dimensions, *(size for size in cut if size < dimensions)}, reverse=True)
    found = []
    for size in sizes:
        found.append(Form(size, "float32"))
        for precision in precisions:
            found += [Form(size, precision)] + ([Form(size, precision, rescored=True)] if precision == "binary" else [])
    return found


@dataclass(frozen=True)
class Embedded:
    """One part of a task, embedded: its queries (Q, D) and passages (P, D), which of them have which id, and the judgments."""

    queries: Floats
    passages: Floats
    query_ids: Sequence[str]
    passage_ids: Sequence[str]
    judgments: Judgments
    ignore_identical_ids: bool = False
    normalised: bool = True  # cosine; else the dot product as it is


def quality(part: Embedded, form: Form) -> float:
    """nDCG@10 of the ranking by embeddings in this form."""
    rows, scores = nearest(_cut(part.queries, part, form), _cut(part.passages, part, form), form, TOP + 1)
    rankings = {
        query: {part.passage_ids[row]: float(score) for row, score in zip(found, of_query, strict=True)}
        for query, found, of_query in zip(part.query_ids, rows, scores, strict=True)
    }
    by_query = query_scores(rankings, part.judgments, ignore_identical_ids=part.ignore_identical_ids)
    return float(np.mean([scores["ndcg_at_10"] for scores in by_query.values()]))


def nearest(queries: Floats, passages: Floats, form: Form, top_k: int) -> tuple[Integers, Floats]:
    """The `top_k` best passages of each query, (Q, K) rows and scores, with the passages (P, D) stored in this form.

    int8: 255 steps between the least and the greatest value of each dimension; each passage is scored by the float32 query. binary:
    the sign of each dimension (Yamada et al. 2021); queries find by bits, and where it is rescored, four times as many are found and
    ranked by the product of the float32 query and the bits.
    """
    from sentence_transformers.util.quantization import quantize_embeddings

    if form.precision == "float32":
        return search(queries, passages, top_k)
    if form.precision == "int8":
        ranges = np.stack([passages.min(axis=0), passages.max(axis=0)])  # (2, D)
        codes = quantize_embeddings(passages, "uint8", ranges=ranges)  # (P, D)
        return search(queries, _decoded(codes, ranges), top_k)
    bits, asked = (_signs(quantize_embeddings(side, "ubinary"), form.dimensions) for side in (passages, queries))
    if not form.rescored:
        return search(asked, bits, top_k)
    rows, _ = search(asked, bits, OVERSAMPLED * top_k)
    scores = np.einsum("qd,qkd->qk", queries, bits[rows])
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _cut(embeddings: Floats, part: Embedded, form: Form) -> Floats:
    """The first dimensions, at unit length again where length does not count."""
    cut = embeddings[:, : form.dimensions].astype(np.float32)
    if part.normalised:
        cut /= np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12)
    return cut


def _decoded(codes: Any, ranges: Floats) -> Floats:
    steps = (ranges[1] - ranges[0]) / 255
    decoded: Floats = (codes.astype(np.float32) * steps + ranges[0]).astype(np.float32)
    return decoded


def _signs(packed: Any, dimensions: int) -> Floats:
    """-1 and +1 for each bit: the product of two is the number of dimensions less twice their Hamming distance."""
    bits: Floats = np.unpackbits(packed, axis=1, count=dimensions).astype(np.float32) * 2 - 1
    return bits
