"""The filter `evidence`: the words that a query was written for, where a pair names them, stand in its positive verbatim."""

from medembed.curate.sieve import Row, Sieve, Stored
from medembed.rows import stands_in


def sieve(setting: bool, stored: Stored) -> Sieve:
    return Sieve(pair)


def pair(row: Row) -> Row | str:
    """White space and typographic quotes aside, as language models like to mend both."""
    missing = row["evidence"] is not None and not stands_in(row["evidence"], row["positive"])
    return "evidence not in the positive" if missing else row
