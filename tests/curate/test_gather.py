"""What all sources give stands together: each passage once, and its pairs beside it."""

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from medembed import tables
from medembed.curate.gather import gather
from medembed.licences import identify
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


def test_a_licence_goes_on_as_we_know_it_and_free_text_beside_it_does_not(tmp_path: Path) -> None:
    said = {
        "CC BY 4.0": "cc-by-4.0",
        "public domain, given by Jane Doering, MRN 4821337": "public-domain",
        "https://creativecommons.org/licenses/by-nc/4.0/ asked of Jane Doering": "cc-by-nc-4.0",
        "Jane Doering gave it for research use only": "unknown",
        "under a data use agreement with Jane Doering": "data-use-agreement",
    }
    rows = [{"query": f"q{n}", "positive": f"p{n}", "terms": text} for n, text in enumerate(said)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = DatasetRecipe.model_validate(
        {
            "kind": "dataset",
            "name": "x",
            "pairs": [{"source": str(tmp_path / "pairs.jsonl"), "columns": {"license": "terms"}}],
            "publish": {"folder": "x"},
        }
    )
    gather(recipe, Run(recipe, tmp_path / "run"), tmp_path / "0")
    for table in ("pairs", "passages"):
        gone_on = [row["license"] for row in tables.rows(tmp_path / "0" / f"{table}.parquet")]
        assert gone_on == list(said.values())
        assert [identify(each, "pairs.jsonl") for each in gone_on] == gone_on  # who asks again is told the same
