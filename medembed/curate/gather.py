"""What curate starts from: generated pairs, labelled pairs, more passages in; one table of pairs, one of passages, one of rejects out.

Licences are those that we know, or `unknown`: what a source's column says besides may name somebody.

Passages of notes come first, then the positives of labelled pairs, then the recipe's `corpus`. A passage that comes twice stands once, with
the note that it came from first; so do all pairs of it: the split, which goes by notes, must not tear them apart. Its other notes are
written beside it: what is known of them (names) holds for its rows as well.
"""

from pathlib import Path
from typing import get_args

from medembed import tables
from medembed.curate.sieve import Row
from medembed.curate.sifting import DONE, SHARED, to_do
from medembed.licences import identify
from medembed.recipe import DatasetRecipe, QueryType
from medembed.rows import CORPUS, PAIRS, Reject, content_id, passage_input
from medembed.run import Run, by_frequency, write_json
from medembed.sources import read_rows

LABELLED = "labelled"  # the type of a query whose source tells none of ours: other text may name somebody, and no filter looks at it


def gather(recipe: DatasetRecipe, run: Run, folder: Path) -> None:
    """Write the rows of all sources into `folder`, and those that cannot be read; nothing, when that has been done."""
    if not to_do(folder):
        return
    rows = 0
    with (
        tables.writing(folder / "passages.parquet", CORPUS) as add_passage,
        tables.writing(folder / "pairs.parquet", PAIRS) as add_pair,
        tables.writing(folder / "shared.parquet", SHARED) as add_shared,
        tables.rejecting(folder / "rejects.parquet") as (reject, counts),
    ):
        note_of: dict[str, str] = {}  # of each passage

        def once(passage: Row) -> None:
            if passage["passage_id"] in note_of:
                of_its_note(passage)
            else:
                note_of[passage["passage_id"]] = passage["note_id"]
                add_passage(passage | {"license": identify(passage["license"], passage["source"])})

        def with_its_passage(pair: Row) -> None:
            add_pair(of_its_note(pair) | {"license": identify(pair["license"], pair["source"])})

        def of_its_note(row: Row) -> Row:
            first = note_of[row["passage_id"]]
            if row["note_id"] != first:
                add_shared({name: row[name] for name in SHARED.names})
            return row | {"note_id": first}

        if recipe.generate:
            for passage in tables.rows(run.path("generate", "corpus.parquet")):
                once(passage)
            for pair in tables.rows(run.path("generate", "pairs.parquet")):
                rows += 1
                with_its_passage(pair)
        for source in recipe.pairs:
            for row in read_rows(source):
                rows += 1
                if isinstance(row, Reject):
                    reject(row)
                    continue
                pair, passage = labelled(row)
                once(passage)
                with_its_passage(pair)
        for more in recipe.corpus:
            for row in read_rows(more):
                if isinstance(row, Reject):
                    reject(row)
                else:
                    once(passage_of(row, row["text"]))
    write_json(folder / DONE, {"rows": rows, "reasons": by_frequency(counts)})


def labelled(row: Row) -> tuple[Row, Row]:
    """A user's own pair → a row of `pairs` and the row of `corpus` that is its positive."""
    passage = passage_of(row, row["positive"])
    pair = {
        "query": row["query"].strip(),
        "positive": passage_input(passage["title"], passage["text"]),
        "query_type": said if (said := row.get("query_type")) in get_args(QueryType) else LABELLED,
        "evidence": row.get("evidence"),
        "generator": None,
        "prompt_version": None,
        **{name: passage[name] for name in ("passage_id", "note_id", "source", "license")},
    }
    return pair, passage


def passage_of(row: Row, text: str) -> Row:
    """The row of `corpus` for a text of a source, named by its content."""
    title, text = (row.get("title") or "").strip(), text.strip()
    passage_id = content_id(title, text)
    # Passages of one document must not be torn apart by the split; where no column names it, a passage stands for itself.
    note_id = content_id(str(row["note_id"])) if row.get("note_id") else passage_id
    named = {"passage_id": passage_id, "note_id": note_id, "text": text, "title": title}
    return named | {"source": row["source"], "license": row["license"]}
