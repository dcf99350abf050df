"""The filter `copies`: no query that is copied out of its passage, which a search for equal words would answer.

What counts is the longest run of words that stands in the positive, as a share of the query's words. Queries of fewer than four
words are exempt: «metformin dose» is what a clinician types, wherever it may stand.
"""

import math

from medembed.curate.sieve import Row, Sieve, Stored
from medembed.rows import fold

EXEMPT = 4  # a query of fewer words may stand in its passage as it is


def sieve(setting: float, stored: Stored) -> Sieve:
    def pair(row: Row) -> Row | str:
        return "query copied from the passage" if copied(row["query"], row["positive"], setting) else row

    return Sieve(pair)


def copied(query: str, positive: str, share: float) -> bool:
    """Whether a run of at least `share` of the query's words stands in the positive, case and punctuation aside."""
    words = fold(query).split()
    if len(words) < EXEMPT:
        return False
    run = math.ceil(share * len(words) - 1e-9)  # a run this long is there if any of this length is
    text = f" {fold(positive)} "
    return any(f" {' '.join(words[start : start + run])} " in text for start in range(len(words) - run + 1))
