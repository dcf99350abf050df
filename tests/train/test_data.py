"""Where training rows may come from, what fits, and what is said when it does not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from medembed.errors import InputError
from medembed.recipe import Data
from medembed.recipe_file import load
from medembed.rows import PAIRS
from medembed.run import Record, Run
from medembed.train import data, inputs
from medembed.train.data import Rows
from tests.fixtures.hub import Hub
from tests.train.conftest import NEGATIVES, ROWS, Bench, publish, triplets


@pytest.fixture
def run(bench: Bench) -> Run:
    return bench.run("unused")


def read(folder: Path, run: Run, negatives: int | None = None, *, taught: bool = False, **said: Any) -> Rows:
    said_data = Data(dataset=str(folder), **said)
    return data.read(data.find(said_data, run), said_data, negatives, seed=0, taught=taught)


def taught(**of_row_3: Any) -> pa.Table:
    """Triplets with a teacher's scores, those of each row told apart by their numbers; one row has others."""
    table = [
        row | {"positive_teacher_score": n + 0.5, "negative_teacher_scores": [n + 0.25, n + 0.125]}
        for n, row in enumerate(triplets().to_pylist())
    ]
    table[3] |= of_row_3
    return pa.Table.from_pylist(table, schema=triplets().schema)


def _with_words(table: pa.Table, name: str) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, pa.array(["many"] * len(table)))


@pytest.mark.parametrize("negatives", [None, 2, 1, 0])
def test_the_first_negatives_are_used(tmp_path: Path, run: Run, negatives: int | None) -> None:
    rows = read(publish(tmp_path / "d", triplets()), run, negatives)
    used = NEGATIVES if negatives is None else negatives
    assert rows.columns == ["query", "positive", *(f"negative_{i + 1}" for i in range(used))]
    assert rows.dataset["label"][:] == list(range(ROWS))
    assert rows.texts.shape == (ROWS, 2 + used)
    assert rows.rejects == []


def test_equal_texts_have_equal_numbers_over_files_and_columns(tmp_path: Path, run: Run) -> None:
    folder = publish(tmp_path / "d", triplets())
    pq.write_table(triplets().slice(0, 5), folder / "triplets" / "train-00001-of-00002.parquet")
    rows = read(folder, run)
    numbers: dict[str, int] = {}
    for row, ids in zip(rows.dataset, rows.texts, strict=True):
        for text, number in zip((row[name] for name in rows.columns), ids, strict=True):
            assert numbers.setdefault(text, number) == number
    assert len(set(numbers.values())) == len(numbers)
    assert len(rows.dataset) == ROWS + 5


def test_rows_that_cannot_teach_are_rejected_with_a_reason(tmp_path: Path, run: Run) -> None:
    table = triplets().to_pylist()
    table[3]["query"] = " \n"
    table[5]["negative_1"] = None
    table[8]["negative_1"] = table[8]["positive"]
    rows = read(publish(tmp_path / "d", pa.Table.from_pylist(table, schema=triplets().schema)), run)
    assert [(row.reason, row.where) for row in rows.rejects] == [
        ("empty text", "d:4"),
        ("empty text", "d:6"),
        ("a text twice in the row", "d:9"),
    ]
    assert len(rows.dataset) == len(rows.texts) == ROWS - 3


def test_a_row_with_fewer_negatives_has_empty_texts_for_those_that_it_lacks(tmp_path: Path, run: Run) -> None:
    table = [row | {"negative_3": f"third {n}"} for n, row in enumerate(triplets().to_pylist())]
    table[2] |= {"negative_3": None}
    table[4] |= {"negative_2": None, "negative_3": None}
    schema = pa.schema([*list(triplets().schema), ("negative_3", pa.string())])
    rows = read(publish(tmp_path / "d", pa.Table.from_pylist(table, schema=schema)), run)
    assert rows.rejects == []
    assert rows.missing[[2, 4, 5]].tolist() == [[False, False, True], [False, True, True], [False, False, False]]
    assert rows.missing.sum() == 3
    assert rows.dataset[2]["negative_3"] == rows.dataset[4]["negative_3"] == rows.dataset[4]["negative_2"] == ""
    assert rows.dataset[4]["negative_1"] == table[4]["negative_1"]
    assert rows.dataset[5] == {name: table[5][name] for name in rows.columns} | {"label": 5}
    assert rows.texts[4, 3] == rows.texts[4, 4] == rows.texts[2, 4]
    assert rows.texts[4, 3] not in {*rows.texts[:, :3].ravel().tolist()}


@pytest.mark.parametrize("negatives", [2, 1])
def test_a_row_brings_the_scores_that_a_teacher_gave_its_passages(tmp_path: Path, run: Run, negatives: int) -> None:
    table = taught(negative_2=None, negative_teacher_scores=[3.25])
    rows = read(publish(tmp_path / "d", table), run, negatives, taught=True)
    expected = np.float32([[n + 0.5, n + 0.25, n + 0.125] for n in range(ROWS)])
    expected[3, 2] = np.nan  # it has one negative
    assert rows.teacher is not None
    np.testing.assert_array_equal(rows.teacher, expected[:, : 1 + negatives])
    assert rows.rejects == []
    assert read(publish(tmp_path / "e", table), run, negatives).teacher is None


def test_scores_stay_with_their_rows_when_some_are_drawn(tmp_path: Path, run: Run) -> None:
    table = taught(query="")
    rows = read(publish(tmp_path / "d", table), run, taught=True, limit=20)
    places = {row["query"]: n for n, row in enumerate(table.to_pylist())}
    assert rows.teacher is not None
    assert rows.teacher[:, 0].tolist() == [places[query] + 0.5 for query in rows.dataset["query"]]


@pytest.mark.parametrize(
    "row",
    [
        {"positive_teacher_score": None},
        {"positive_teacher_score": float("nan")},
        {"negative_teacher_scores": None},
        {"negative_teacher_scores": [1.0]},
        {"negative_teacher_scores": [1.0, None]},
        {"negative_teacher_scores": [float("inf"), 1.0]},
    ],
)
def test_a_row_without_a_score_that_a_loss_needs_is_rejected(tmp_path: Path, run: Run, row: dict[str, Any]) -> None:
    folder = publish(tmp_path / "d", taught(**row))
    assert [(reject.reason, reject.where) for reject in read(folder, run, taught=True).rejects] == [
        ("no teacher scores", "d:4")
    ]
    assert read(folder, run).rejects == []


@pytest.mark.parametrize(
    "table",
    [
        triplets(),
        triplets().drop_columns(["positive_teacher_score"]),
        _with_words(taught(), "negative_teacher_scores"),
    ],
    ids=["empty columns", "no column", "no numbers"],
)
def test_a_dataset_without_a_teacher_is_told_where_a_loss_needs_one(tmp_path: Path, run: Run, table: pa.Table) -> None:
    with pytest.raises(InputError, match="no row has a teacher's scores") as error:
        read(publish(tmp_path / "d", table), run, taught=True)
    assert "mine.teacher" in error.value.faults[0].mend


def test_a_teacher_needs_negatives(tmp_path: Path, run: Run) -> None:
    with pytest.raises(InputError, match="without negatives have nothing to compare"):
        read(publish(tmp_path / "d", taught()), run, 0, taught=True)


def test_a_row_without_a_second_negative_can_be_trained_on_with_one(tmp_path: Path, run: Run) -> None:
    table = triplets().to_pylist()
    table[5]["negative_2"] = None
    rows = read(publish(tmp_path / "d", pa.Table.from_pylist(table, schema=triplets().schema)), run, 1)
    assert len(rows.dataset) == ROWS


def test_a_limit_draws_the_same_rows_each_time_and_not_the_first(tmp_path: Path, run: Run) -> None:
    folder = publish(tmp_path / "d", triplets())
    drawn, again = read(folder, run, limit=20), read(folder, run, limit=20)
    assert drawn.dataset["query"][:] == again.dataset["query"][:]
    assert len(drawn.dataset) == len(drawn.texts) == 20
    assert drawn.offered == ROWS
    assert drawn.dataset["query"][:] != triplets()["query"].to_pylist()[:20]


def test_a_published_folder_is_known_by_the_hash_of_its_rows_and_brings_its_manifest(tmp_path: Path, run: Run) -> None:
    found = data.find(Data(dataset=str(publish(tmp_path / "d", triplets()))), run)
    other = data.find(Data(dataset=str(publish(tmp_path / "e", triplets(60)))), run)
    assert found.provenance == {"name": "made-by-hand"}
    assert len(found.revision) == 40
    assert found.revision != other.revision


def test_the_rows_of_a_dataset_recipe_come_from_the_run_folder_beside(tmp_path: Path, bench: Bench) -> None:
    recipe = {
        "kind": "dataset",
        "name": "made",
        "pairs": [{"source": str(tmp_path / "pairs.parquet"), "license": "cc0-1.0"}],
        "publish": {"folder": str(tmp_path / "published")},
    }
    pq.write_table(triplets(), tmp_path / "pairs.parquet")
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    run = Run(load(bench.recipe), tmp_path / "runs" / "tiny")
    said = Data(dataset=str(tmp_path / "dataset.yaml"), config="pairs")
    with pytest.raises(InputError, match="made has not been run"):
        data.find(said, run)

    theirs = Run(load(tmp_path / "dataset.yaml"), tmp_path / "runs" / "made")
    with theirs.locked(), pytest.raises(InputError, match="`curate` has not been done"):
        data.find(said, run)
    pairs = [dict.fromkeys(PAIRS.names[:-3], "x") | row for row in triplets().select(["query", "positive"]).to_pylist()]
    theirs.write("curate", "pairs-train", pa.Table.from_pylist(pairs, schema=PAIRS))
    theirs.perform("curate", "f", lambda: Record("curate", counts={"pairs": ROWS}))
    found = data.find(said, run)
    assert found.name == "made"
    assert found.provenance is not None
    assert found.provenance["stages"]["curate"]["counts"] == {"pairs": ROWS}
    assert "measured" not in found.provenance
    assert len(data.read(found, said, None, seed=0).dataset) == ROWS


@pytest.mark.slow
def test_a_repository_of_the_hub_is_taken_at_the_commit_of_its_revision(tmp_path: Path) -> None:
    publish(tmp_path / "d", triplets())
    script = """
import json, sys
from huggingface_hub import HfApi
from medembed.errors import InputError
from medembed.recipe import Data
from medembed.train import data
api = HfApi()
api.create_repo("medembed/set", repo_type="dataset")
first = api.upload_folder(repo_id="medembed/set", folder_path=sys.argv[1], repo_type="dataset")
api.create_tag("medembed/set", tag="v1", repo_type="dataset")
api.upload_file(path_or_fileobj=b"{}", path_in_repo="provenance.json", repo_id="medembed/set", repo_type="dataset")
said = Data(dataset="medembed/set", revision="v1")
found = data.find(said, None)
rows = data.read(found, said, None, 0)
faults = []
for wrong in (Data(dataset="medembed/set", revision="v2"), Data(dataset="medembed/none"), Data(dataset="medembed/set", config="pairs")):
    try:
        data.find(wrong, None)
    except InputError as error:
        faults.append(str(error))
print(json.dumps([found.revision == first.oid, found.name, found.provenance, len(rows.dataset), faults]))
"""
    with Hub(tmp_path / "hub") as hub:
        command = [sys.executable, "-c", script, str(tmp_path / "d")]
        done = subprocess.run(command, env=hub.env(home=tmp_path / "home"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    same, name, provenance, count, faults = json.loads(done.stdout.splitlines()[-1])
    assert (same, name, provenance, count) == (True, "medembed/set", {"name": "made-by-hand"}, ROWS)
    assert ["404" in faults[0], "404" in faults[1], "no training rows under pairs/" in faults[2]] == [True] * 3


def _without(name: str) -> pa.Table:
    return triplets().drop_columns([name])


def _as_numbers(name: str) -> pa.Table:
    table = triplets()
    return table.set_column(table.schema.get_field_index(name), name, pa.array(range(ROWS)))


@pytest.mark.parametrize(
    ("table", "said", "message"),
    [
        (_without("positive"), {}, "no column positive"),
        (_as_numbers("query"), {}, "column query is not text"),
        (triplets(), {"negatives": 3}, "has 2 hard negatives, the recipe uses 3"),
        (triplets().slice(0, 0), {}, "of 0 rows none can be trained on"),
        (triplets(), {"config": "pairs"}, "no training rows under pairs/"),
    ],
)
def test_what_does_not_fit_is_said(
    tmp_path: Path, run: Run, table: pa.Table, said: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(publish(tmp_path / "d", table), run, **said)


def test_a_file_that_is_no_parquet_is_said(tmp_path: Path, run: Run) -> None:
    folder = publish(tmp_path / "d", triplets())
    (folder / "triplets" / "train-00000-of-00001.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read(folder, run)


def test_a_model_recipe_is_no_dataset(bench: Bench, run: Run) -> None:
    with bench.run("tiny").locked(), pytest.raises(InputError, match="of a model, not of a dataset"):
        data.find(Data(dataset=str(bench.recipe)), run)


def test_what_is_read_and_not_where_it_lies_makes_the_fingerprint(bench: Bench, tmp_path: Path, run: Run) -> None:
    there = publish(tmp_path / "dataset", triplets())
    other = publish(tmp_path / "other" / "dataset", triplets(60))
    here = inputs(load(bench.recipe), run)
    assert inputs(load(bench.recipe, (f"data.dataset={there}",)), run) == here
    assert inputs(load(bench.recipe, (f"data.dataset={other}",)), run) != here
    assert inputs(load(bench.recipe, ("train.seed=1",)), run) != here
