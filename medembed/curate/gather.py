"""What curate starts from: generated pairs and labelled pairs in; one table of pairs, one of passages and one of rejects out.

Passages of notes come first, then the positives of labelled pairs. A passage that comes twice stands once.
"""

from pathlib import Path

from medembed import tables
from medembed.curate.sieve import Row
from medembed.curate.sifting import DONE, to_do
from medembed.recipe import DatasetRecipe
from medembed.recipe import Pairs as PairsSource
from medembed.rows import CORPUS, PAIRS, Reject, content_id, passage_input
from medembed.run import Run, write_json
from medembed.sources import read_rows


def gather(recipe: DatasetRecipe, run: Run, folder: Path) -> None:
    """Write the rows of all sources into `folder`, and those that cannot be read; nothing, when that has been done."""
    if not to_do(folder):
        return
    rows = 0
    with (
        tables.writing(folder / "passages.parquet", CORPUS) as add_passage,
        tables.writing(folder / "pairs.parquet", PAIRS) as add_pair,
        tables.rejecting(folder / "rejects.parquet") as (reject, _),
    ):
        seen: set[str] = set()
        if recipe.generate:
            for passage in tables.rows(run.path("generate", "corpus.parquet")):
                seen.add(passage["passage_id"])
                add_passage(passage)
            for pair in tables.rows(run.path("generate", "pairs.parquet")):
                rows += 1
                add_pair(pair)
        for source in recipe.pairs:
            for row in read_rows(source):
                rows += 1
                if isinstance(row, Reject):
                    reject(row)
                    continue
                pair, passage = labelled(row, source)
                add_pair(pair)
                if passage["passage_id"] not in seen:
                    seen.add(passage["passage_id"])
                    add_passage(passage)
    write_json(folder / DONE, {"rows": rows})


def labelled(row: Row, source: PairsSource) -> tuple[Row, Row]:
    """A user's own pair → a row of `pairs` and the row of `corpus` that is its positive."""
    title, text = (row.get("title") or "").strip(), row["positive"].strip()
    passage_id = content_id(title, text)
    # Pairs of one document must not be torn apart by the split; without a column that names it, the positive stands for it.
    note_id = content_id(str(row["note_id"])) if row.get("note_id") else passage_id
    origin = {"source": row["source"], "license": row["license"]}
    passage = {"passage_id": passage_id, "note_id": note_id, "text": text, "title": title, **origin}
    pair = {
        "query": row["query"].strip(),
        "positive": passage_input(title, text),
        "query_type": row.get("query_type") or "labelled",
        "passage_id": passage_id,
        "note_id": note_id,
        "evidence": row.get("evidence"),
        "generator": None,
        "prompt_version": None,
        **origin,
    }
    return pair, passage
