"""Ranked candidates → hard negatives: which passage may stand against a query, and which only looks false.

Never the positive's passage or one of the same text, never another positive of the same query; and only what scores clearly below
the positive. Pure functions over arrays; draws are seeded by the row, so that no other row changes them.
"""

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from medembed.recipe import Mine
from medembed.retrieval.embeddings import Embeddings, Floats, Integers
from medembed.rows import Reject, as_json, fold

Row = dict[str, Any]


class Candidates(NamedTuple):
    """What the retriever found for Q queries among P passages."""

    corpus: list[Row]  # P rows
    texts: list[str]  # P, as they are embedded
    passages: Embeddings  # (P, D), unit length
    queries: Embeddings  # (Q, D), unit length
    ids: Integers  # (Q, K) rows of the corpus, best first
    scores: Floats  # (Q, K) cosines


def choose(pairs: list[Row], found: Candidates, options: Mine) -> tuple[list[Row], list[Reject]]:
    """Triplets of the pairs that found `options.negatives` negatives, and rejects of those that found fewer."""
    folded = [fold(text) for text in found.texts]
    row_of = {passage["passage_id"]: i for i, passage in enumerate(found.corpus)}
    positives_of: dict[str, set[str]] = defaultdict(set)  # folded query → folded texts that answer it
    for pair in pairs:
        positives_of[fold(pair["query"])].add(folded[row_of[pair["passage_id"]]])

    triplets: list[Row] = []
    rejects: list[Reject] = []
    for i, pair in enumerate(pairs):
        positive = row_of[pair["passage_id"]]
        score = float(found.queries[i].astype(np.float32) @ found.passages[positive])
        barred = positives_of[fold(pair["query"])]
        note = pair["note_id"] if options.exclude_note else None
        ceiling = score - (1 - (options.relative_margin or 1)) * abs(score)
        ranked = zip(found.ids[i].tolist(), found.scores[i].tolist(), strict=True)
        allowed = (
            (j, s) for j, s in ranked if s < ceiling and folded[j] not in barred and found.corpus[j]["note_id"] != note
        )
        negatives = _distinct(allowed, folded, options.negatives)
        if len(negatives) < options.negatives and options.fewer == "fill":
            drawn = _drawn(i, pair, found, barred, folded, options.seed)
            allowed = ((j, s) for j, s in chain(negatives, drawn) if s < ceiling)
            negatives = _distinct(allowed, folded, options.negatives)
        if len(negatives) < options.negatives:
            where = f"note {pair['note_id']}, passage {pair['passage_id']}"
            row = as_json({"query": pair["query"], "positive": pair["positive"]})
            rejects.append(Reject(f"fewer than {options.negatives} negatives", where, row))
            continue
        triplets.append(
            {"query": pair["query"], "positive": pair["positive"]}
            | {f"negative_{n}": found.texts[j] for n, (j, _) in enumerate(negatives, start=1)}
            | {
                "positive_score": score,
                "negative_scores": [s for _, s in negatives],
                "passage_id": pair["passage_id"],
                "note_id": pair["note_id"],
                "negative_ids": [found.corpus[j]["passage_id"] for j, _ in negatives],
            }
        )
    return triplets, rejects


def _distinct(candidates: Iterator[tuple[int, float]], folded: list[str], most: int) -> list[tuple[int, float]]:
    """The first `most` candidates whose folded texts differ."""
    taken: dict[str, tuple[int, float]] = {}
    for j, score in candidates:
        if len(taken) == most:
            break
        taken.setdefault(folded[j], (j, score))
    return list(taken.values())


def _drawn(
    i: int, pair: Row, found: Candidates, barred: set[str], folded: list[str], seed: int
) -> Iterator[tuple[int, float]]:
    """Passages of other notes in random order, with their scores."""
    draw = hashlib.sha256(f"{seed}:{pair['passage_id']}:{pair['query']}".encode()).hexdigest()
    for j in random.Random(draw).sample(range(len(folded)), len(folded)):
        if folded[j] not in barred and found.corpus[j]["note_id"] != pair["note_id"]:
            yield j, float(found.queries[i].astype(np.float32) @ found.passages[j])
