"""The filter `round_trip`: a query must find its own positive again (consistency filtering: Dai et al. 2022, «Promptagator»).

The recipe's retriever ranks all passages; a cross-encoder, if there is one, then scores the pairs whose positive is among the first.
Rank and scores stay in the row.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from medembed import models
from medembed.curate.ranks import BATCH, Ranked, ranked
from medembed.curate.sieve import Row, Sieve, Stored
from medembed.recipe import Model, RoundTrip
from medembed.retrieval.reranking import probabilities, score


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


def _reranked(model: Model, top_k: int, found: Ranked, stored: Stored) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """The reranker's score, from 0 to 1, of each pair that is found among the first `top_k`, (N,); NaN for the others."""
    places: list[int] = []

    def texts() -> Iterator[tuple[str, str]]:
        for row in stored.pairs():
            if found.ranks[at := found.at(row)] <= top_k:
                places.append(at)
                yield row["query"], row["positive"]

    reranker, revision = models.load_reranker(model), models.resolve(model).revision
    logits = score(reranker, revision, texts(), stored.cache, BATCH)
    scores = np.full(len(found.keys), np.nan)
    scores[places] = probabilities(logits)
    return scores
