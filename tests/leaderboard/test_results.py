"""Whatever lies in a results folder is either read as mteb would read it, or counted with a reason."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medembed.errors import InputError
from medembed.leaderboard.results import Facts, read
from tests.leaderboard.files import COMMIT, write, write_meta, write_result

SCORES = {"scores": {"test": [{"hf_subset": "default", "main_score": 0.5}]}}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["scores", "test", "main_score", "hf_subset"]), inner)
    ),
)


@pytest.mark.parametrize("place", ["", "evaluate", "some-run/evaluate"])
def test_results_are_found_in_run_folders_and_where_mteb_wrote_them(tmp_path: Path, place: str) -> None:
    write_result(tmp_path / place, "org/model", "NFCorpus", 0.4)
    [result] = read([tmp_path]).results
    assert (result.model, result.revision, result.task) == ("org/model", COMMIT, "NFCorpus")
    assert result.scores == {"test": {"default": 0.4}}
    assert result.file == f"org__model/{COMMIT}/NFCorpus.json"


def test_what_a_model_declares_is_read_beside_its_results(tmp_path: Path) -> None:
    write_result(tmp_path, "org/my__model", "NFCorpus", 0.4)
    trained = {"NFCorpus": ["train"], "Other": []}
    facts = {
        "n_parameters": 7,
        "embed_dim": [4, 8],
        "license": "mit",
        "adapted_from": "a/b",
        "training_datasets": trained,
    }
    write_meta(tmp_path, "org/my__model", **facts, release_date="2026-01-02")
    expected = Facts(
        parameters=7, dimensions=8, licence="mit", released="2026-01-02", base="a/b", trained_on=("NFCorpus",)
    )
    assert read([tmp_path]).facts == {"org/my__model": expected}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{torn", "not a result file of mteb"),
        (
            {"dataset_revision": "15076f40dfdf8359", "scores": {"test": [{"hf_subset": "default", "main_score": 0.9}]}},
            "measured on a local folder that has the name of a task",
        ),
        ("[]", "not a result file of mteb"),
        ({"scores": {"test": [{"hf_subset": "default"}]}}, "not a result file of mteb"),
        ({"scores": {"test": [{"hf_subset": "default", "main_score": 61.2}]}}, "a score that is not between 0 and 1"),
        ({"scores": {"test": [{"hf_subset": "default", "main_score": float("nan")}]}}, "a score that is not a number"),
        ({"scores": {"train": [{"hf_subset": "default", "main_score": 0.5}]}}, "no score for any part of the task"),
        ("[" * 100_000, "not a result file of mteb"),
    ],
)
def test_a_broken_file_is_counted_with_its_reason_and_the_others_are_read(
    tmp_path: Path, content: object, reason: str
) -> None:
    write(tmp_path, "org/model", "NFCorpus", content)
    write_result(tmp_path, "org/model", "ArguAna", 0.5)
    write_meta(tmp_path, "org/model")
    found = read([tmp_path])
    assert [result.task for result in found.results] == ["ArguAna"]
    assert found.rejects == {reason: 1}


@given(content=ANYTHING)
@settings(deadline=None)
def test_no_content_of_a_file_stops_the_reading(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    folder = tmp_path_factory.mktemp("results")
    if isinstance(content, dict) and "scores" not in content:
        content = {"scores": content}
    write(folder, "org/model", "NFCorpus", json.dumps(content))
    found = read([folder])
    assert len(found.results) + sum(count for reason, count in found.rejects.items() if "meta" not in reason) == 1


def test_missing_and_faulty_metadata_are_counted_and_the_folder_names_the_model(tmp_path: Path) -> None:
    write_result(tmp_path, "org/without", "NFCorpus", 0.4)
    write_result(tmp_path, "org/faulty", "NFCorpus", 0.4)
    write_meta(tmp_path, "org/faulty", n_parameters="many")
    found = read([tmp_path])
    assert {result.model for result in found.results} == {"org/without", "org/faulty"}
    assert sum(found.rejects.values()) == 2 and all("model_meta.json" in reason for reason in found.rejects)


def test_metadata_that_calls_the_model_otherwise_than_its_folder_is_not_believed(tmp_path: Path) -> None:
    write_result(tmp_path, "org/model", "NFCorpus", 0.4)
    write_meta(tmp_path, "org/model", name="famous/model")
    assert [result.model for result in read([tmp_path]).results] == ["org/model"]


def test_a_result_of_an_old_mteb_is_converted_by_mteb(tmp_path: Path) -> None:
    old = {"mteb_version": "1.0.2", "mteb_dataset_name": "NFCorpus", "dataset_revision": "x"}
    write(
        tmp_path, "org/model", "NFCorpus", old | {"test": {"ndcg_at_10": 0.31, "map_at_10": 0.1, "evaluation_time": 1}}
    )
    [result] = read([tmp_path]).results
    assert result.scores == {"test": {"default": 0.31}} and result.mteb_version == "1.0.2"


def test_an_old_result_that_mteb_cannot_convert_is_counted(tmp_path: Path) -> None:
    write(tmp_path, "org/model", "NFCorpus", {"mteb_version": "1.0.2"})
    assert read([tmp_path]).rejects["a result of an old mteb that cannot be converted"] == 1


def test_a_folder_without_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no results"):
        read([tmp_path])
