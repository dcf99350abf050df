"""The manifest: what it tells, and what it must never tell."""

import getpass
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from medembed.provenance import decontamination, manifest, training_datasets, without_paths
from medembed.run import write_json
from tests.publish.runs import GENERATOR, SECRET_TEXT, dataset_run, model_run


def test_a_manifest_tells_the_recipe_the_stages_and_where_the_rows_come_from(tmp_path: Path) -> None:
    made = manifest(*dataset_run(tmp_path, publish={"folder": "hub/tiny"}))
    assert (made["format"], made["kind"], made["name"], made["license"]) == (1, "dataset", "tiny-triplets", "cc0-1.0")
    assert list(made["stages"]) == ["generate", "curate", "mine"]
    assert made["stages"]["generate"]["counts"] == {"notes": 7, "pairs": 6}
    assert made["stages"]["generate"]["rejects"] == {"evidence not in note": 1}
    assert len(made["stages"]["mine"]["outputs"]["triplets-train.parquet"]) == 64
    assert made["origins"]["pairs"] == [
        {
            "source": "notes.jsonl",
            "license": "cc0-1.0",
            "generator": GENERATOR,
            "prompt_version": "clinical-queries-v1",
            "rows": 6,
        }
    ]
    assert made["libraries"]["torch"] and made["medembed"]["version"]


def test_the_hash_of_the_recipe_can_be_checked_from_the_manifest_alone(tmp_path: Path) -> None:
    made = manifest(*dataset_run(tmp_path, publish={"folder": "hub/tiny"}))
    text = json.dumps(made["recipe"], sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest() == made["recipe_sha256"]


def test_the_manifest_of_a_model_holds_that_of_its_dataset_once(tmp_path: Path, tiny_model: Path) -> None:
    upstream = manifest(*dataset_run(tmp_path / "d", publish={"repo": "medembed/tiny-triplets"}))
    made = manifest(*model_run(tmp_path / "m", tiny_model, publish={"folder": "x"}, upstream=upstream))
    assert made["upstream"] == upstream
    assert "provenance" not in made["stages"]["train"]["facts"]["dataset"]
    assert made["stages"]["evaluate"]["facts"]["verdict"] == "WIN"


@pytest.mark.parametrize("foreign", [None, "a text", {"format": 99}, {"format": 1, "origins": "none"}])
def test_a_dataset_with_a_manifest_of_another_form_is_one_without(
    tmp_path: Path, tiny_model: Path, foreign: object
) -> None:
    made = manifest(*model_run(tmp_path, tiny_model, publish={"folder": "x"}, upstream=foreign))  # type: ignore[arg-type]
    assert made["upstream"] is None


def test_what_differs_from_run_to_run_stands_under_measured_alone(tmp_path: Path) -> None:
    recipe, run = dataset_run(tmp_path, publish={"folder": "hub/tiny"})
    first = manifest(recipe, run)
    record = run.record("mine")
    assert record is not None
    record.measured = {"seconds": 99.0, "device": "another"}
    write_json(run.path("mine", "record.json"), asdict(record))
    second = manifest(recipe, run)
    assert first != second
    assert {**first, "measured": 0} == {**second, "measured": 0}


def test_neither_paths_nor_users_nor_texts_of_the_data_stand_in_a_manifest(tmp_path: Path, tiny_model: Path) -> None:
    publish = {"folder": str(tmp_path / "hub"), "ask": "a question of the author's own"}
    upstream = manifest(*dataset_run(tmp_path / "d", publish={"folder": str(tmp_path / "hub")}))
    made = json.dumps(manifest(*model_run(tmp_path / "m", tiny_model, publish=publish, upstream=upstream)))
    for forbidden in (str(tmp_path), str(Path.home()), f"/{getpass.getuser()}", SECRET_TEXT, "what was started", "own"):
        assert forbidden not in made


def test_paths_are_reduced_to_names_and_all_else_is_left() -> None:
    assert without_paths("/home/somebody/data/notes.jsonl") == "notes.jsonl"
    assert without_paths("~/models/mine") == "mine"
    assert without_paths("read from /home/somebody/notes.jsonl today") == "read from notes.jsonl today"
    kept = ["https://hub.example/a/b", "BAAI/bge-small-en-v1.5", "query: ", "and/or", "nDCG@10 1/2", 3, None]
    assert without_paths(kept) == kept


def curated_against(**tasks: dict[str, Any]) -> dict[str, Any]:
    """The part of a dataset's manifest that decontamination is read from."""
    origins = {"pairs": [{"source": "org/pairs", "license": "mit"}], "corpus": [{"source": "notes.jsonl"}]}
    facts = {"decontaminate": {"tasks": tasks, "ngram": 8, "near": None}}
    return {"format": 1, "origins": origins, "stages": {"curate": {"facts": facts}}}


NFCORPUS = {
    "revision": "ec0fa4f",
    "queries": 323,
    "passages": 3633,
    "removed": {"queries": {"query match": 2, "n-gram": 1, "near": 0}, "passages": {"n-gram": 7}},
}


def test_a_task_counts_as_decontaminated_only_where_the_dataset_says_so() -> None:
    assert decontamination(["NFCorpus", "ArguAna"], curated_against(NFCorpus=NFCORPUS)) == {
        "NFCorpus": {
            "state": "decontaminated",
            "revision": "ec0fa4f",
            "ngram": 8,
            "boilerplate": None,
            "near": None,
            "removed": {"queries": 3, "passages": 7},
        },
        "ArguAna": {"state": "not checked"},
    }


def test_a_model_learned_from_all_sources_of_its_dataset() -> None:
    assert training_datasets("org/triplets", curated_against()) == ["org/triplets", "org/pairs", "notes.jsonl"]


@pytest.mark.parametrize("told", [None, {}, {"stages": []}, curated_against(NFCorpus=["?"])])  # type: ignore[arg-type]
def test_without_a_word_of_it_nothing_was_checked(told: dict[str, Any] | None) -> None:
    assert decontamination(["NFCorpus"], told) == {"NFCorpus": {"state": "not checked"}}


def test_a_models_manifest_says_what_it_learned_from_and_what_was_not_checked(tmp_path: Path, tiny_model: Path) -> None:
    upstream = manifest(*dataset_run(tmp_path / "d", publish={"repo": "medembed/tiny-triplets"}, license="cc-by-4.0"))
    made = manifest(*model_run(tmp_path / "m", tiny_model, publish={"folder": "x"}, upstream=upstream))
    assert made["training_datasets"] == ["medembed/tiny-triplets", "notes.jsonl"]
    assert made["decontamination"] == {"tiny-task": {"state": "not checked"}}
    assert [row["source"] for row in made["attributions"]] == ["notes.jsonl"]
    assert "training_datasets" not in upstream
