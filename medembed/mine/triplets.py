"""Pools and what teacher and judge say of them → triplets: the first n of each pool that are left, hardest first."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from medembed.mine.corpus import Corpus, Pairs
from medembed.mine.negatives import Flags
from medembed.mine.pools import Pools
from medembed.mine.teacher import Graded
from medembed.recipe import Mine
from medembed.rows import Reject, as_json


def choose(left: Flags, options: Mine) -> Flags:
    """The first `negatives` of each pool that are `left` (Q, M); none of a pool that holds fewer than a row must have."""
    enough = left.sum(axis=1) >= _needed(options)
    chosen: Flags = left & (left.cumsum(axis=1) <= options.negatives) & enough[:, None]
    return chosen


def rows_of(
    pairs: Pairs, corpus: Corpus, pools: Pools, chosen: Flags, graded: Graded | None, options: Mine
) -> Iterator[tuple[str, dict[str, Any]] | Reject]:
    """The triplets with the names of their splits, in the order of the pairs; rejects for rows with too few negatives."""
    needed = _needed(options)
    reason = f"fewer than {needed} negatives" if needed > 1 else "no negative"
    for row in range(len(pairs)):
        places = np.flatnonzero(chosen[row])
        # By the retriever's rank; what was drawn at random has none, and stands last.
        places = places[np.lexsort((pools.ranks[row, places], pools.ranks[row, places] == 0))]
        passage_id, note_id = corpus.ids[int(pairs.positives[row])].as_py(), pairs.note_ids[row]
        query, positive = pairs.queries[row], corpus.texts[pairs.positives[row]]
        if not len(places):
            said = as_json({"query": query, "positive": positive})
            yield Reject(reason, f"note {note_id}, passage {passage_id}", said)
            continue
        ids = pools.ids[row, places].tolist()
        triplet = {"query": query, "positive": positive}
        triplet |= {f"negative_{n}": corpus.texts[passage] for n, passage in enumerate(ids, start=1)}
        triplet |= {
            "positive_score": float(pools.positives[row]),
            "negative_scores": pools.scores[row, places].tolist(),
            "positive_teacher_score": float(graded.positives[row]) if graded else None,
            "negative_teacher_scores": graded.negatives[row, places].tolist() if graded else None,
            "passage_id": passage_id,
            "note_id": note_id,
            "negative_ids": [corpus.ids[passage].as_py() for passage in ids],
        }
        yield pairs.split_names[pairs.splits[row]], triplet


def _needed(options: Mine) -> int:
    return 1 if options.fewer == "keep" else options.negatives
