"""Ranked passages → pools of negatives: judged by the rules, in the order in which a row takes them.

A pool holds more than a row needs where a teacher or a judge may still drop some. Queries go through in blocks, so that memory holds a
pool for each, and what else is known of candidates for one block alone.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from medembed.mine.corpus import Corpus, Pairs
from medembed.mine.negatives import NEAR, REASONS, Codes, Rules, generator, order
from medembed.mine.ranking import Ranking
from medembed.recipe import Mine
from medembed.retrieval.embeddings import Floats, Integers

QUERIES = 1024  # at a time
DRAWN = 64  # passages drawn at random for each row that is to be filled up


class Pools(NamedTuple):
    """Up to M negatives for each of Q queries; those behind the first n are spares."""

    positives: Floats  # (Q,) scores
    ids: Integers  # (Q, M) rows of the corpus; -1: none
    scores: Floats  # (Q, M)
    ranks: Integers  # (Q, M) the retriever's, from 1; 0: drawn at random
    found: Counter[str]  # candidates in the window of ranks: in all, and those left out by reason


def gather(ranking: Ranking, pairs: Pairs, corpus: Corpus, options: Mine, size: int) -> Pools:
    """Pools of at most `size` negatives from each query's window of ranks; filled at random where the recipe says so."""
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
    for rows in tqdm(_blocks(every_row), desc="mine", unit="block", disable=len(pairs) <= QUERIES):
        ids, scores = ranking.ids[rows, window], ranking.scores[rows, window]  # (B, W)
        codes = rules.codes(rows, ids, scores, pools.positives[rows])
        for i, row in enumerate(rows.tolist()):
            left = order(np.flatnonzero(codes[i] == 0), options, _key(row, pairs, corpus))
            _take(row, left, ids[i], scores[i], ranks, codes[i], pools, rules)
        pools.found.update({"in all": int((ids >= 0).sum())})
        pools.found.update({REASONS[code]: int((codes == code).sum()) for code in REASONS})
    if options.fewer == "fill":
        for rows in _blocks(np.flatnonzero(pools.ids[:, -1] < 0)):
            _fill(rows, ranking, pairs, corpus, options, pools, rules)
    return pools


def _fill(
    rows: Integers, ranking: Ranking, pairs: Pairs, corpus: Corpus, options: Mine, pools: Pools, rules: Rules
) -> None:
    """Fill the pools of `rows` with random passages of other notes, to which all rules but the window of ranks apply."""
    draws = min(DRAWN, len(corpus))
    ids = np.stack(
        [
            generator(f"fill {_key(row, pairs, corpus)}", options.seed).choice(len(corpus), draws, replace=False)
            for row in rows.tolist()
        ]
    )  # (B, drawn)
    scores = ranking.score(rows, ids)
    codes = rules.codes(rows, ids, scores, pools.positives[rows], ranked=False)
    for i, row in enumerate(rows.tolist()):
        there = corpus.text_numbers[pools.ids[row][pools.ids[row] >= 0]]
        left = np.flatnonzero((codes[i] == 0) & ~np.isin(corpus.text_numbers[ids[i]], there))
        _take(row, left, ids[i], scores[i], np.zeros(draws, np.int64), codes[i], pools, rules)


def _take(
    row: int, left: Integers, ids: Integers, scores: Floats, ranks: Integers, codes: Codes, pools: Pools, rules: Rules
) -> None:
    """Put the candidates at the places `left` into the pool of `row`, in their order, until it is full; near-duplicates get their code."""
    taken = int((pools.ids[row] >= 0).sum())
    for place in left.tolist():
        if taken == pools.ids.shape[1]:
            return
        if rules.is_near(row, ids[place]):
            codes[place] = NEAR
            continue
        pools.ids[row, taken], pools.scores[row, taken], pools.ranks[row, taken] = (
            ids[place],
            scores[place],
            ranks[place],
        )
        taken += 1


def _blocks(rows: Integers) -> list[Integers]:
    return [rows[start : start + QUERIES] for start in range(0, len(rows), QUERIES)]


def _key(row: int, pairs: Pairs, corpus: Corpus) -> str:
    """The name of a pair for draws: what it says, not where it stands."""
    return f"{corpus.ids[int(pairs.positives[row])].as_py()} {pairs.queries[row]}"
