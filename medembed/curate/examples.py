"""Three examples of each reason, for the author's eyes: tables of rejects in, a text to read out.

It quotes queries and passages: it stays in the run folder, and nothing of it goes into a record, a log or a card.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from medembed.curate.sifting import rejects_of
from medembed.rows import Reject
from medembed.run import replacing

EACH = 3
LONG = 400  # characters of a text that are shown
HEAD = """\
# What curate rejected: examples

For your eyes: these are texts of your sources, and nothing here is published. All rejects are in `rejects.parquet`.
"""
SHOWN = ("query", "positive", "evidence", "title", "text")


def write(path: Path, steps: Iterable[tuple[str, Path]]) -> None:
    """Write the examples of all steps (name, folder), in the order in which reasons first occur."""
    with replacing(path) as temporary:
        parts = [HEAD, *(part for name, folder in steps for part in _of(name, folder))]
        temporary.write_text("\n".join(parts), encoding="utf-8")


def _of(name: str, folder: Path) -> Iterator[str]:
    first: dict[str, list[Reject]] = {}
    counts: Counter[str] = Counter()
    for reject in rejects_of(folder):
        counts[reject.reason] += 1
        if counts[reject.reason] <= EACH:
            first.setdefault(reject.reason, []).append(reject)
    for reason, rejects in first.items():
        yield f"\n## {name}: {reason} ({counts[reason]:,})\n"
        yield from (f"{number}. {each.where}\n\n{_texts(each.row)}\n" for number, each in enumerate(rejects, 1))


def _texts(row: str) -> str:
    """The texts of a rejected row, each on a line; the row as it is where it cannot be read."""
    try:
        found = json.loads(row)
    except ValueError:
        found = None
    texts = {key: str(found[key]) for key in SHOWN if found.get(key)} if isinstance(found, dict) else {"row": row}
    return "\n".join(f"    {key + ':':10s} {_short(text)}" for key, text in texts.items())


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONG else f"{line[:LONG]}…"
