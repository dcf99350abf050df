"""The filter `generic`: no query that could fit any note («What is the diagnosis?»), told by how badly it finds its own passage.

What counts is the share of the other passages that answer it better than its own does, by the recipe's retriever. In a corpus of fewer
than 1 / `share` passages one better passage is enough.
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
        better = int(found.ranks[found.at(row)]) - 1
        return "query fits too many passages" if better and better >= bound else row

    return Sieve(pair)
