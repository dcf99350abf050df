"""Ranked passages → pools of negatives: judged by the rules, in the order in which a row takes them.

A pool holds more than a row needs where a teacher or a judge may still drop some. Queries go through in blocks, so that memory holds a
pool for each, and what else is known of candidates for one block alone.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from medembed.mine.corpus import Corpus, Pairs
from medembed.mine.negatives import NEAR, REASONS, Rules, order
from medembed.mine.ranking import Ranking
from medembed.recipe import Mine
from medembed.retrieval.embeddings import Floats, Integers

QUERIES = 1024  # at a time


class Pools(NamedTuple):
    """Up to M negatives for each of Q queries; those behind the first n are spares."""

    positives: Floats  # (Q,) scores
    ids: Integers  # (Q, M) rows of the corpus; -1: none
    scores: Floats  # (Q, M)
    ranks: Integers  # (Q, M) the retriever's, from 1; 0: drawn at random
    found: Counter[str]  # candidates in the window of ranks: in all, and those left out by reason


def gather(ranking: Ranking, pairs: Pairs, corpus: Corpus, options: Mine, size: int) -> Pools:
    """Pools of at most `size` negatives from each query's window of ranks."""
    rules = Rules(pairs, corpus, options)
    every_row, shape = np.arange(len(pairs)), (len(pairs), size)
    pools = Pools(
        positives=ranking.score(every_row, pairs.positives[:, None])[:, 0],
        ids=np.full(shape, -1),
        scores=np.full(shape, np.nan, np.float32),
        ranks=np.zeros(shape, np.int64),
        found=Counter(),
    )
    window = slice(options.ranks[0] - 1, options.ranks[1])
    ranks = 1 + np.arange(len(corpus))[window]  # (W,)
    for rows in tqdm(row_blocks(rules.by_query), desc="mine", unit="block", disable=len(pairs) <= QUERIES):
        ids, scores = ranking.ids[rows, window], ranking.scores[rows, window]  # (B, W)
        codes = rules.codes(rows, ids, scores, pools.positives[rows])
        for i, row in enumerate(rows.tolist()):
            left = order(np.flatnonzero(codes[i] == 0), options, key_of(row, pairs, corpus))
            apart, near = rules.apart(row, ids[i, left], size)
            codes[i, left[near]] = NEAR
            taken, here = left[apart], slice(len(apart))
            pools.ids[row, here], pools.scores[row, here], pools.ranks[row, here] = (
                ids[i, taken],
                scores[i, taken],
                ranks[taken],
            )
        pools.found.update({"in all": int((ids >= 0).sum())})
        pools.found.update({REASONS[code]: int((codes == code).sum()) for code in REASONS})
    return pools


def row_blocks(rows: Integers) -> list[Integers]:
    return [rows[start : start + QUERIES] for start in range(0, len(rows), QUERIES)]


def key_of(row: int, pairs: Pairs, corpus: Corpus) -> str:
    """The name of a pair for draws: what it says, not where it stands."""
    return f"{corpus.ids[int(pairs.positives[row])].as_py()} {pairs.queries[row]}"
