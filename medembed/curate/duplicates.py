"""The filter `duplicates`: of rows that say the same, or almost the same, the first stays.

`pairs`: query and positive both say the same; it would only weigh twice.
`queries`: the later goes even when its positive is another one: side by side in a batch, each would count the other's positive as wrong.
`passages`: two passages alike in the corpus are each other's false negatives. The later goes, and its pairs, which are as good as
any, move to the first, unless their evidence does not stand there.
"""

import hashlib
from collections.abc import Callable

from medembed.curate.near import Near
from medembed.curate.sieve import Row, Same, Sieve, Stored, installed, keep
from medembed.recipe import Duplicates
from medembed.rows import fold, passage_input

Find = Callable[..., tuple[str, int] | None]


def sieve(setting: Duplicates, stored: Stored) -> Sieve:
    pairs, queries = (finder(setting, stored) if kind in setting.of else None for kind in ("pairs", "queries"))

    def pair(row: Row) -> Row | str:
        if pairs and (found := pairs(row["query"], row["positive"])):
            return found[0]
        if queries and (found := queries(row["query"])):
            return f"{found[0]} query"
        return row

    return Sieve(pair, _passages(setting, stored) if "passages" in setting.of else keep)


def reads(setting: Duplicates) -> str | None:
    return installed("rensa") if setting.near else None


def _passages(setting: Duplicates, stored: Stored) -> Callable[[Row], Row | Same]:
    find = finder(setting, stored)
    kept: list[str] = []

    def passage(row: Row) -> Row | Same:
        if found := find(passage_input(row["title"], row["text"])):
            how, number = found
            return Same(f"{how} passage", kept[number])
        kept.append(row["passage_id"])
        return row

    return passage


def finder(setting: Duplicates, stored: Stored) -> Find:
    """A function that says how a text (of several parts) repeats an earlier one, and the number of that one; else keeps it.

    Numbers count the texts that were kept, from 0.
    """
    seen: dict[bytes, int] = {}
    near = Near(setting.near, stored.scratch) if setting.near else None

    def find(*parts: str) -> tuple[str, int] | None:
        said = [fold(part) or part for part in parts] if setting.normalised else parts
        digest = hashlib.blake2b("\x1f".join(said).encode(), digest_size=16).digest()
        if (number := seen.get(digest)) is not None:
            return "duplicate", number
        if near and (number := near.earlier(*parts)) is not None:
            return "near-duplicate", number
        seen[digest] = len(seen)
        return None

    return find
