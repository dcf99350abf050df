"""What all sources give stands together: each passage once, and its pairs beside it."""

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from medembed import tables
from medembed.curate.gather import gather
from medembed.recipe import DatasetRecipe
from medembed.rows import CORPUS, PAIRS
from medembed.run import Run
from tests.curate.rows import pair, passage_of

TORN = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("uvw")), min_size=1, max_size=9
)  # passages, of notes


@settings(max_examples=30, deadline=None)
@given(generated=TORN, labelled=TORN)
def test_all_pairs_of_a_passage_are_of_one_note_so_that_no_split_tears_them_apart(
    generated: list[tuple[str, str]], labelled: list[tuple[str, str]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = {"notes": [{"id": "1", "text": "…"}], "pairs": [labelled_row(text, note) for text, note in labelled]}
        for kind, rows in sources.items():
            (folder / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        recipe = DatasetRecipe.model_validate(
            {kind: [{"source": str(folder / f"{kind}.jsonl"), "license": "mit"}] for kind in sources}
            | {"kind": "dataset", "name": "x", "generate": {"endpoints": ["http://x"]}, "publish": {"folder": "x"}}
        )
        pairs = [pair("q", text, note=note) for text, note in generated]
        for table, schema, rows in (("pairs", PAIRS, pairs), ("corpus", CORPUS, map(passage_of, pairs))):
            with tables.writing(folder / "run" / "generate" / f"{table}.parquet", schema) as add:
                for row in rows:
                    add(row)
        gather(recipe, Run(recipe, folder / "run"), folder / "0")
        notes = {row["passage_id"]: row["note_id"] for row in tables.rows(folder / "0" / "passages.parquet")}
        found = list(tables.rows(folder / "0" / "pairs.parquet"))
    assert len(found) == len(generated) + len(labelled)
    assert {(row["passage_id"], row["note_id"]) for row in found} == set(notes.items())


def labelled_row(text: str, note: str) -> dict[str, str]:
    return {"query": "q", "positive": text, "note_id": note}
