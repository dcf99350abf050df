"""The notes of a recipe, one at a time: rows of its sources in; `Note`s out, normalised, named by their content and cut into passages.

Nothing is held but the hashes of what was seen, so a million notes pass through; reading twice gives the same notes twice.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

from medembed.generate.passages import Note, cut, normalise
from medembed.llm.index import Index
from medembed.recipe import Generate, Notes, is_local
from medembed.rows import Reject, as_json, content_id
from medembed.sources import read_rows
from medembed.tokens import counter


def read_notes(sources: Iterable[Notes], options: Generate) -> Iterator[Note | Reject]:
    """The notes of all sources in their order, the first `limit` of them; and a reject for each row that gives none.

    A note is named by its text. The ids of a source may be record numbers of patients: they end here.
    """
    count = counter(options.passages.tokenizer, options.passages.revision)
    seen = Index()
    for row in chain.from_iterable(map(read_rows, sources)):
        if options.limit and len(seen) == options.limit:
            return
        if isinstance(row, Reject):
            yield row
            continue
        text = normalise(row["text"])
        note_id = content_id(text)
        if not text or not seen.add(note_id):
            yield Reject("duplicate note" if text else "empty text", row["where"], as_json(row))
            continue
        title = " ".join(normalise(row.get("title", "")).split())
        yield Note(note_id, title, tuple(cut(text, options.passages, count)), row["source"], row["license"])


def rows_of(sources: Iterable[Notes], limit: int | None) -> int | None:
    """About how many notes there are: the rows of local files; None where a source on the Hub says no `limit`."""
    known = [sum(1 for _ in read_rows(each)) if is_local(each.source) else each.limit for each in sources]
    total = None if None in known else sum(rows or 0 for rows in known)
    return min(total, limit) if total and limit else total or limit
