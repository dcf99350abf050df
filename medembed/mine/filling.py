"""Rows that have found fewer negatives than they need → the same rows, filled up with random passages.

It comes last, so that what teacher and judge have taken away is made up for too. What is drawn keeps to all rules but the window of
ranks; the teacher's margin holds for it, and what the judge would have to be asked about is not taken.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from medembed.mine import suspects, teacher
from medembed.mine.corpus import Corpus, Pairs, same_as
from medembed.mine.negatives import Flags, Rules, generator
from medembed.mine.pools import Pools, key_of, row_blocks
from medembed.mine.ranking import Ranking
from medembed.mine.suspects import Verdicts
from medembed.mine.teacher import Graded
from medembed.recipe import Mine
from medembed.retrieval.embeddings import Integers

DRAWN = 64  # passages for each row; the teacher is asked about as many at a time as a pool holds


def fill(
    pairs: Pairs,
    corpus: Corpus,
    ranking: Ranking,
    pools: Pools,
    left: Flags,
    graded: Graded | None,
    verdicts: Verdicts | None,
    options: Mine,
    cache: Path,
) -> None:
    """Put random passages where pools hold what is not `left` (Q, M), until each row has its negatives or no more are found."""
    rules, size = Rules(pairs, corpus, options), pools.ids.shape[1]
    missing = options.negatives - left.sum(axis=1)  # (Q,)
    drawn_for = rules.by_query[missing[rules.by_query] > 0]  # (S,)
    drawn = _draw(drawn_for, ranking, pairs, corpus, pools, rules, options)
    if verdicts and options.judge:
        drawn.ids[suspects.unjudged(pairs, corpus, pools, verdicts, drawn_for, drawn, options.judge)] = -1
    for start in range(0, DRAWN, size):
        at = np.flatnonzero(missing[drawn_for] > 0)  # of the rows that were drawn for
        rows, places = drawn_for[at], slice(start, start + size)
        ids, scores, logits = drawn.ids[at, places], drawn.scores[at, places], None
        if graded and options.teacher and (ids >= 0).any():
            logits = teacher.scored(pairs, corpus, rows, ids, options.teacher, cache)
            ids[teacher.too_close(logits, graded.positives[rows], options.teacher.relative_margin)] = -1
        for i, row in enumerate(rows):
            there = np.flatnonzero(ids[i] >= 0)
            new = there[rules.apart(row, ids[i, there], missing[row])[0]]
            free = np.flatnonzero(~left[row])[: len(new)]  # enough: a pool holds at least as many as a row needs
            pools.ids[row, free], pools.scores[row, free], pools.ranks[row, free] = ids[i, new], scores[i, new], 0
            if graded and logits is not None:
                graded.negatives[row, free] = logits[i, new]
            left[row, free] = True
            missing[row] -= len(new)


def _draw(
    rows: Integers, ranking: Ranking, pairs: Pairs, corpus: Corpus, pools: Pools, rules: Rules, options: Mine
) -> Pools:
    """Random passages of other notes for the pairs `rows` (S,), none of which their pools hold, by all rules for scores and texts."""
    shape = (len(rows), min(DRAWN, len(corpus)))
    ids, scores = np.full(shape, -1), np.full(shape, np.nan, np.float32)
    same_query = same_as(pairs.queries)  # rows that a judge has added are not in the ranking; their queries are
    for block in row_blocks(np.arange(len(rows))):
        asked = rows[block]
        for i, row in zip(block, asked, strict=True):
            draws = generator(f"fill {key_of(row, pairs, corpus)}", options.seed)
            ids[i] = draws.choice(len(corpus), shape[1], replace=False)
        scores[block] = ranking.score(same_query[asked], ids[block])
        codes = rules.codes(asked, ids[block], scores[block], pools.positives[asked], ranked=False)
        held = np.where(pools.ids[asked] >= 0, corpus.text_numbers[pools.ids[asked]], -1)  # (B, M)
        met = (corpus.text_numbers[ids[block]][:, :, None] == held[:, None]).any(axis=2)
        ids[block] = np.where((codes == 0) & ~met, ids[block], -1)
    return Pools(pools.positives[rows], ids, scores, np.zeros(shape, np.int64), Counter())
