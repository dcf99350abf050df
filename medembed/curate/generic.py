"""The filter `generic`: no query that could fit any note («What is the diagnosis?»), told by how badly it finds its own passage.

What counts is the share of the other passages that fit it: those that answer it better than its own does, by the recipe's retriever,
and those for which other pairs ask the same. In a corpus of fewer than 1 / `share` passages one of them is enough.
"""

from medembed.curate.ranks import ranked
from medembed.curate.sieve import Row, Sieve, Stored
from medembed.recipe import Generic


def sieve(setting: Generic, stored: Stored) -> Sieve:
    """
    Raises:
        RunError: the retriever gives numbers that are none.
    """
    found = ranked(setting.retriever, stored)
    bound = setting.share * (found.passages - 1)

    def pair(row: Row) -> Row | str:
        at = found.at(row)
        fits = int(found.ranks[at] - 1 + found.answers[at] - 1)
        return "query fits too many passages" if fits and fits >= bound else row

    return Sieve(pair)
