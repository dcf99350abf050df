"""What goes to mteb is what mteb reads: the model's metadata as code, and its results."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import mteb
import pytest

from medembed.errors import InputError
from medembed.leaderboard.submit import submit
from medembed.recipe import ModelRecipe
from medembed.run import Record, Run, sha256, write_json

NAME, COMMIT = "org/Test-Model.v1", "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def run(tmp_path: Path, tiny_model: Path) -> Run:
    """A run as `train`, `evaluate` and `publish` leave it."""
    recipe = ModelRecipe.model_validate(
        {
            "kind": "model",
            "name": "test-model",
            "base": str(tiny_model),
            "data": {"dataset": "org/triplets"},
            "evaluate": {"tasks": ["NFCorpus"]},
            "publish": {"repo": NAME, "license": "apache-2.0"},
        }
    )
    run = Run(recipe, tmp_path / "run")
    weights = {"model/model.safetensors": sha256(tiny_model / "model.safetensors")}
    facts = {"dataset": {"name": "org/triplets", "revision": "v1", "provenance": None}}
    with run.locked():
        shutil.copytree(tiny_model, run.path("train", "model"))
        run.perform("train", "trained", lambda: Record(stage="train", outputs=weights, facts=facts))
        tuned = {"name": "test-model", "revision": weights["model/model.safetensors"][:40]}
        run.perform("evaluate", "evaluated", lambda: Record(stage="evaluate", facts={"tuned": tuned}))
        shutil.copytree(tiny_model, run.path("publish", "repo"))
        run.perform("publish", "published", lambda: Record(stage="publish", facts={"where": f"{NAME}@{COMMIT}"}))
    write_result(run, "NFCorpus", 0.3)
    return run


def write_result(run: Run, task: str, score: float, **changed: object) -> Path:
    found = mteb.get_task(task)
    scores = {split: {"default": {"main_score": score}} for split in found.eval_splits}
    result = mteb.TaskResult.from_task_results(found, scores, evaluation_time=1.0).model_copy(update=changed)
    revision = run.finished("evaluate").facts["tuned"]["revision"]
    path = run.path("evaluate", f"results/local__test-model/{revision}/{task}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    result.to_disk(path)
    return path


def test_both_pull_requests_have_exactly_their_files(run: Run, tmp_path: Path) -> None:
    write_result(run, "NFCorpus", 0.3).with_name("my-local-task.json").write_text("{}")
    to = tmp_path / "submission"
    files = submit(run.recipe, run, None, None, to)
    place = f"results/results/org__Test-Model.v1/{COMMIT}"
    expected = {
        "mteb/mteb/models/model_implementations/org_models.py",
        f"{place}/model_meta.json",
        f"{place}/NFCorpus.json",
    }
    assert {path.relative_to(to).as_posix() for path in files} == expected
    assert {path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()} == expected


def test_the_submission_of_another_model_is_not_written_over(run: Run, tmp_path: Path) -> None:
    (code, *_) = submit(run.recipe, run, None, None, tmp_path / "submission")
    standing = code.read_text().replace(NAME, "org/Another-Model")
    code.write_text(standing)
    with pytest.raises(InputError, match="holds the submission of another model"):
        submit(run.recipe, run, None, None, tmp_path / "submission")
    assert code.read_text() == standing


def test_the_metadata_says_what_was_trained_and_on_what(run: Run, tmp_path: Path) -> None:
    submit(run.recipe, run, None, None, tmp_path / "to")
    meta = json.loads(next(tmp_path.rglob("to/**/model_meta.json")).read_text())
    assert (meta["name"], meta["revision"], meta["license"]) == (NAME, COMMIT, "apache-2.0")
    assert meta["embed_dim"] == 32 and meta["max_tokens"] == 64 and meta["n_parameters"] > 10_000
    assert meta["training_datasets"] == ["org/triplets"]
    assert meta["public_training_data"] == "https://huggingface.co/datasets/org/triplets"


def test_mteb_is_told_by_its_names_which_of_its_tasks_the_training_data_are(run: Run, tmp_path: Path) -> None:
    record = run.finished("train")
    record.facts["dataset"]["name"] = "BeIR/nfcorpus"
    write_json(run.path("train", "record.json"), asdict(record))
    submit(run.recipe, run, None, None, tmp_path / "to")
    meta = json.loads(next(tmp_path.rglob("to/**/model_meta.json")).read_text())
    assert {"BeIR/nfcorpus", "NFCorpus"} <= set(meta["training_datasets"])
    assert "TRECCOVID" not in meta["training_datasets"]


def test_the_same_submission_has_the_same_bytes(run: Run, tmp_path: Path) -> None:
    for name in ("one", "two"):
        submit(run.recipe, run, None, None, tmp_path / name)
    one, two = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*.*")
            if path.is_file()
        }
        for name in ("one", "two")
    )
    assert one == two


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dataset_revision": "another"}, "was measured on revision another"),
        ({"scores": {}}, "is not whole: 1 subsets"),
    ],
)
def test_results_that_mteb_would_not_take_are_refused(
    run: Run, tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    write_result(run, "NFCorpus", 0.3, **changed)
    with pytest.raises(InputError, match=message):
        submit(run.recipe, run, None, None, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_result_in_one_language_of_several_is_left_out_and_told(run: Run, tmp_path: Path, caplog) -> None:
    path = write_result(run, "NFCorpus", 0.4).with_name("PublicHealthQA.json")
    task = mteb.get_task("PublicHealthQA")
    result = mteb.TaskResult.from_task_results(task, {"test": {"english": {"main_score": 0.8}}}, evaluation_time=1.0)
    result.to_disk(path)
    with caplog.at_level("INFO", "medembed"):
        files = submit(run.recipe, run, None, None, tmp_path / "to")
    assert {file.stem for file in files} == {"org_models", "model_meta", "NFCorpus"}
    assert "PublicHealthQA.json: is not whole: 7 subsets" in caplog.text
    path.with_name("NFCorpus.json").unlink()
    with pytest.raises(InputError, match="is not whole: 7 subsets"):
        submit(run.recipe, run, None, None, tmp_path / "nothing")


def test_results_at_the_published_commit_are_taken_from_where_they_are_said_to_be(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere" / f"results/org__Test-Model.v1/{COMMIT}"
    place.mkdir(parents=True)
    write_result(run, "NFCorpus", 0.7).rename(place / "NFCorpus.json")
    files = submit(run.recipe, run, tmp_path / "elsewhere", None, tmp_path / "to")
    (result,) = (path for path in files if path.stem == "NFCorpus")
    assert json.loads(result.read_text())["scores"]["test"][0]["main_score"] == 0.7


def test_results_of_another_revision_are_not_submitted(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)was not published from here.*--results"):
        submit(run.recipe, run, None, "f" * 40, tmp_path / "to")
    shutil.rmtree(run.path("publish"))
    with pytest.raises(InputError, match=r"(?s)was not published from here.*--results"):
        submit(run.recipe, run, None, "f" * 40, tmp_path / "to")
    with pytest.raises(InputError, match="holds no results"):
        submit(run.recipe, run, run.path("evaluate"), "f" * 40, tmp_path / "to")


def test_results_of_a_model_that_was_trained_again_after_publishing_are_not_submitted(run: Run, tmp_path: Path) -> None:
    weights = run.path("publish", "repo") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(InputError, match="another model than was published"):
        submit(run.recipe, run, None, None, tmp_path / "to")


def test_a_model_that_was_not_published_has_nothing_to_submit(run: Run, tmp_path: Path) -> None:
    shutil.rmtree(run.path("publish"))
    with pytest.raises(InputError, match="has not been published"):
        submit(run.recipe, run, None, None, tmp_path / "to")
