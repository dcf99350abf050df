"""The filter `round_trip`: a query must find its own positive again (consistency filtering: Dai et al. 2022, «Promptagator»).

The recipe's retriever ranks all passages; a cross-encoder, if there is one, then scores the pairs whose positive is among the first.
Rank and scores stay in the row.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from medembed import models, tables
from medembed.curate.ranks import BATCH, Ranked, ranked
from medembed.curate.sieve import Row, Sieve, Stored
from medembed.errors import RunError
from medembed.recipe import Model, RoundTrip
from medembed.retrieval.embeddings import Floats
from medembed.run import replacing

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

BLOCK = 1024  # pairs that are scored at once, and kept


def sieve(setting: RoundTrip, stored: Stored) -> Sieve:
    """
    Raises:
        RunError: the retriever or the reranker gives numbers that are none.
    """
    found = ranked(setting.retriever, stored)
    reranked = _reranked(setting.reranker, setting.top_k, found, stored) if setting.reranker else None

    def pair(row: Row) -> Row | str:
        at = found.at(row)
        if found.ranks[at] > setting.top_k:
            return "not found by its query"
        row |= {"retriever_rank": int(found.ranks[at]), "retriever_score": float(found.scores[at])}
        if reranked is not None:
            row["reranker_score"] = float(reranked[at])
            if reranked[at] < (setting.min_score or 0):
                return "reranker score too low"
        return row

    return Sieve(pair)


def _reranked(model: Model, top_k: int, found: Ranked, stored: Stored) -> Floats:
    """The reranker's score, from 0 to 1, of each pair that is found among the first `top_k`, (N,); NaN for the others."""
    reranker, revision = models.load_reranker(model), models.resolve(model).revision
    scores = np.full(len(found.keys), np.nan, np.float32)
    pairs = (row for row in stored.pairs() if found.ranks[found.at(row)] <= top_k)
    with tqdm(total=int((found.ranks <= top_k).sum()), desc="rerank", unit="pair", disable=None) as bar:
        for block in tables.blocks(pairs, BLOCK):
            texts = [(row["query"], row["positive"]) for row in block]
            scores[[found.at(row) for row in block]] = _scored(reranker, revision, texts, stored.cache)
            bar.update(len(block))
    return scores


def _scored(reranker: "CrossEncoder", revision: str, texts: list[tuple[str, str]], cache: Path) -> Floats:
    """The scores of one block, (B,): read where they stand, else made and written, so that a killed run goes on from here."""
    from torch.nn import Sigmoid

    made_by = json.dumps([revision, reranker.max_length, texts])
    path = cache / f"reranked-{hashlib.sha256(made_by.encode()).hexdigest()[:32]}.npy"
    try:
        scores: Floats = np.load(path, allow_pickle=False)
        return scores
    except (OSError, ValueError):  # there is none, or a damaged one
        scores = reranker.predict(texts, batch_size=BATCH, activation_fn=Sigmoid(), show_progress_bar=False)
    if not np.isfinite(scores).all():
        what = "the reranker gives scores that are not finite"
        raise RunError.of(what, "curate.round_trip.reranker", "Choose another.")
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, scores)
    return scores
