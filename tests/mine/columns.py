"""Small corpora and pairs as mining holds them, with scores that a test says."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from medembed.mine.corpus import Corpus, Pairs, Texts, hashes_of
from medembed.mine.filling import fill
from medembed.mine.pools import Pools, gather
from medembed.mine.ranking import Ranking
from medembed.recipe import Mine


def corpus_of(texts: list[str], notes: list[str] | None = None) -> Corpus:
    """Passage i has the id p{i} and, unless said otherwise, the note n{i}."""
    noted = pa.array(notes or [f"n{i}" for i in range(len(texts))]).dictionary_encode()
    return Corpus(
        ids=pa.array([f"p{i}" for i in range(len(texts))], pa.string()),
        texts=Texts(pa.array(texts, pa.large_string())),
        text_numbers=np.unique(hashes_of(texts), return_inverse=True)[1],
        notes=Texts(noted.dictionary),
        note_numbers=np.asarray(noted.indices, np.int64),
    )


def pairs_of(corpus: Corpus, asked: list[tuple[str, int]], splits: list[int] | None = None) -> Pairs:
    """Pairs of a query and the row of its positive."""
    queries, positives = [query for query, _ in asked], np.array([row for _, row in asked])
    return Pairs(
        queries=Texts(pa.array(queries, pa.large_string())),
        query_numbers=np.unique(hashes_of(queries), return_inverse=True)[1],
        positives=positives,
        note_ids=Texts(pa.array([corpus.notes[note] for note in corpus.note_numbers[positives]])),
        split_names=["train", "dev"],
        splits=np.array(splits or [0] * len(asked)),
    )


def ranking_of(scores: "np.ndarray[Any, Any]") -> Ranking:
    """All passages of each query by their `scores` (Q, P)."""
    scores = np.asarray(scores, np.float32)
    ids = np.argsort(-scores, axis=1, kind="stable")
    return Ranking(ids, np.take_along_axis(scores, ids, axis=1), lambda rows, ids: scores[rows[:, None], ids])


def mined(
    scores: list[list[float]],
    asked: list[tuple[str, int]] | None = None,
    texts: list[str] | None = None,
    notes: list[str] | None = None,
    splits: list[int] | None = None,
    **said: Any,
) -> tuple[list[list[int]], Pools]:
    """The rows of the corpus that each pair gets, and the pools; the first passage answers `q` unless said otherwise.

    Without a teacher and a judge, filled up where `said` says so.
    """
    options = Mine.model_validate({"retriever": "a/b", "negatives": 2} | said)
    corpus = corpus_of(texts or [f"passage {i}" for i in range(len(scores[0]))], notes)
    pairs = pairs_of(corpus, asked or [("q", 0)], splits)
    ranking = ranking_of(np.array(scores))
    pools = gather(ranking, pairs, corpus, options, options.negatives)
    if options.fewer == "fill":
        fill(pairs, corpus, ranking, pools, pools.ids >= 0, None, None, options, Path())
    return [ids[ids >= 0].tolist() for ids in pools.ids], pools
