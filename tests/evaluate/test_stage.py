"""The stage: base against tuned model, the record that cards quote, and the same bytes from the same inputs."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import mteb
import numpy as np
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer

from medembed import stages
from medembed.errors import InputError
from medembed.evaluate import baseline, inputs
from medembed.evaluate.contestants import check_peers
from medembed.evaluate.lineage import _of_data
from medembed.run import Record, Run, sha256, write_json
from medembed.tasks.beir import content_hash
from tests.evaluate.runs import model_recipe, trained
from tests.fixtures.beir import PASSAGES, write_beir
from tests.fixtures.embedding_server import EmbeddingServer
from tests.fixtures.models import make_tiny_model


@pytest.fixture(scope="module", autouse=True)
def timed_in_a_moment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medembed.evaluate.efficiency.SECONDS", 0)
        yield


@pytest.fixture(scope="module")
def tuned_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tuned"), seed=3)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("tasks")
    return [
        str(write_beir(folder / "first")),
        str(write_beir(folder / "second", passages=[*PASSAGES[::-1][1:], ("d12", "", "insulin")])),
    ]


def files_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def times_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_the_record_tells_both_models_on_each_task_and_the_verdict(tiny_model, tuned_model, tasks, tmp_path) -> None:
    recipe = model_recipe(tiny_model, tasks)
    run = trained(recipe, tmp_path / "run", tuned_model)
    record = stages.perform("evaluate", recipe, run)
    assert record.counts == {"tasks": 2, "queries": 12, "passages": 24}
    assert record.facts["tuned"] == {"name": "test-model", "revision": sha256(tuned_model / "model.safetensors")[:40]}
    assert record.facts["base"]["revision"] == sha256(tiny_model / "model.safetensors")[:40]
    assert record.facts["verdict"] in ("WIN", "MARGINAL", "REGRESSION")

    scores = pq.read_table(run.path("evaluate", "scores.parquet")).to_pandas()
    for task, facts in record.facts["tasks"].items():
        assert (facts["queries"], facts["passages"]) == (6, 12)
        of_task = scores[scores.task == task]
        for metric in ("ndcg_at_10", "mrr_at_10", "recall_at_10"):
            assert facts[metric]["base"] == pytest.approx(of_task[f"base_{metric}"].mean(), abs=1e-6)
            assert facts[metric]["tuned"] == pytest.approx(of_task[f"tuned_{metric}"].mean(), abs=1e-6)
            assert facts[metric]["difference"] == pytest.approx(
                facts[metric]["tuned"] - facts[metric]["base"], abs=2e-6
            )
            assert facts[metric]["low"] <= facts[metric]["difference"] <= facts[metric]["high"]
    means = [facts["ndcg_at_10"]["tuned"] for facts in record.facts["tasks"].values()]
    assert record.facts["average"]["tuned"] == pytest.approx(np.mean(means), abs=1e-6)


def test_the_results_of_both_models_are_read_by_mteb(tiny_model, tuned_model, tasks, tmp_path) -> None:
    recipe = model_recipe(tiny_model, tasks)
    run = trained(recipe, tmp_path / "run", tuned_model)
    record = stages.perform("evaluate", recipe, run)
    loaded = mteb.ResultCache(run.path("evaluate")).load_results(require_model_meta=False)
    found = {
        (result.model_name, task.task_name): task.get_score()
        for result in loaded.model_results
        for task in result.task_results
    }
    for task, facts in record.facts["tasks"].items():
        assert found["local/test-model", task] == pytest.approx(facts["ndcg_at_10"]["tuned"], abs=1e-4)
    assert len(found) == 4
    assert {name for name in record.outputs if name.startswith("results/local__test-model/")} == {
        f"results/local__test-model/{record.facts['tuned']['revision']}/{name}.json"
        for name in ("first", "second", "model_meta")
    }


def test_the_same_inputs_give_the_same_bytes(tiny_model, tuned_model, tasks, tmp_path) -> None:
    recipe = model_recipe(tiny_model, tasks)
    kept = []
    for name in ("one", "two"):
        run = trained(recipe, tmp_path / name, tuned_model)
        stages.perform("evaluate", recipe, run)
        files = files_of(run.path("evaluate"))
        record = json.loads(files.pop("record.json"))
        assert set(record.pop("measured")) == {"mteb_seconds", "seconds", "speed"}
        kept.append((files, record))
    assert kept[0] == kept[1]
    assert str(tmp_path).encode() not in b"".join(kept[0][0].values())


def test_the_base_that_train_measured_is_not_measured_again(tiny_model, tuned_model, tasks, tmp_path) -> None:
    recipe = model_recipe(tiny_model, tasks)
    run = trained(recipe, tmp_path / "run", tuned_model)
    measured = baseline(recipe, run)
    before = times_of(tmp_path / "run" / "measured")
    record = stages.perform("evaluate", recipe, run)
    assert before.items() <= times_of(tmp_path / "run" / "measured").items()
    mean = np.mean(measured.tasks["first"].scores["ndcg_at_10"])
    assert record.facts["tasks"]["first"]["ndcg_at_10"]["base"] == pytest.approx(mean, abs=1e-6)


def test_a_model_against_itself_is_marginal(tiny_model, tasks, tmp_path) -> None:
    recipe = model_recipe(tiny_model, tasks)
    record = stages.perform("evaluate", recipe, trained(recipe, tmp_path / "run", tiny_model))
    assert (record.facts["average"]["difference"], record.facts["average"]["p"]) == (0, 1)
    assert record.facts["verdict"] == "MARGINAL"


def test_a_decontamination_report_counts_for_the_data_that_it_was_made_with(tasks) -> None:
    task = Path(tasks[0])
    for revision, state in ((content_hash(task), "zero-shot"), ("another", "not known")):
        report = {task.name: {"state": "decontaminated", "revision": revision}}
        told = {"training_datasets": ["org/none"], "decontamination": report}
        assert _of_data(told, tasks[:1], ["eng"]) == {task.name: state}


def test_mteb_is_told_of_the_trained_model_what_no_folder_of_weights_tells(
    tiny_model, tuned_model, tasks, tmp_path
) -> None:
    recipe = model_recipe(tiny_model, tasks[:1])
    run = trained(recipe, tmp_path / "run", tuned_model)
    record = run.finished("train")
    record.facts["dataset"] = {"name": "BeIR/nfcorpus"}
    write_json(run.path("train", "record.json"), asdict(record))
    stages.perform("evaluate", recipe, run)
    (told,) = run.path("evaluate").glob("results/local__test-model/*/model_meta.json")
    meta = json.loads(told.read_text())
    assert meta["n_parameters"] == sum(it.numel() for it in SentenceTransformer(str(tuned_model)).parameters())
    assert {"BeIR/nfcorpus", "NFCorpus", "NFCorpus-PL"} <= set(meta["training_datasets"])
    assert (meta["adapted_from"], meta["license"]) == (tiny_model.parent.name, "not specified")


def test_done_work_is_skipped_until_the_model_or_a_task_changes(tiny_model, tuned_model, tasks, tmp_path) -> None:
    recipe = model_recipe(tiny_model, tasks[:1])
    run = trained(recipe, tmp_path / "run", tuned_model)
    skipped: list[Record] = []
    for _ in range(2):
        stages.perform("evaluate", recipe, run, skipping=skipped.append)
    assert len(skipped) == 1
    stages.perform("evaluate", model_recipe(tiny_model, tasks), run, skipping=skipped.append)
    assert len(skipped) == 1


def test_without_a_trained_model_the_mend_is_to_train(tiny_model, tasks, tmp_path) -> None:
    recipe = model_recipe(tiny_model, tasks)
    with pytest.raises(InputError, match="Run `medembed train` first"):
        inputs(recipe, Run(recipe, tmp_path / "run"))


def test_the_fingerprint_does_not_hang_on_where_a_task_lies(tiny_model, tuned_model, tasks, tmp_path) -> None:
    moved = shutil.copytree(tasks[0], tmp_path / "elsewhere" / "first")
    here, there = model_recipe(tiny_model, tasks[:1]), model_recipe(tiny_model, [str(moved)])
    run = trained(here, tmp_path / "run", tuned_model)
    assert inputs(here, run) == inputs(there, run)


@pytest.fixture(scope="module")
def compared(tiny_model, tuned_model, tasks, tmp_path_factory) -> tuple[Run, Record]:
    """A run with another model and an endpoint beside base and tuned, cut and quantised."""
    other = make_tiny_model(tmp_path_factory.mktemp("other"), seed=7)
    with EmbeddingServer() as server:
        peers = [{"model": str(other), "prompts": {"query": "pain "}}, {"endpoint": server.url}]
        recipe = model_recipe(tiny_model, tasks, compare=peers, dimensions=[16, 8])
        run = trained(recipe, tmp_path_factory.mktemp("compared"), tuned_model)
        check_peers(recipe)
        record = stages.perform("evaluate", recipe, run)
        asked = len(server.asked)
        assert sorted(server.texts[1:]) == sorted(set(server.texts[1:])), "asked twice for a text"
    assert asked < 10
    return run, record


def test_other_models_stand_beside_base_and_tuned(compared) -> None:
    run, record = compared
    roles = [(it["role"], it["name"]) for it in record.facts["models"]]
    assert [role for role, _ in roles] == ["base", "tuned", "compared", "compared"]
    assert roles[3][1] == "loopback/embedder"
    assert set(record.facts["compared"]) == {name for role, name in roles if role == "compared"}
    tuned, peer = record.facts["models"][1], record.facts["models"][3]
    found = record.facts["compared"]["loopback/embedder"]
    assert found["average"]["tuned"] == pytest.approx(tuned["average"], abs=1e-6)
    assert found["average"]["base"] == pytest.approx(peer["average"], abs=1e-6)
    assert set(found["tasks"]) == {"first", "second"}
    assert run.path("evaluate", "results/loopback__embedder/as-served/first.json").exists()


def test_where_an_endpoint_is_stands_in_no_file(compared) -> None:
    run, record = compared
    assert "127.0.0.1" not in json.dumps([record.facts, record.said, record.measured])
    for path in run.path("evaluate").rglob("*"):
        assert path.is_dir() or b"127.0.0.1" not in path.read_bytes()


def test_each_model_is_told_with_what_it_costs(compared) -> None:
    _, record = compared
    base, tuned, _, endpoint = record.facts["models"]
    assert base["parameters"] == tuned["parameters"] > 10_000
    assert base["weights_bytes"] >= 4 * base["parameters"]
    assert (base["dimensions"], endpoint["dimensions"]) == (32, 64)
    assert base["index"]["first"] == {"passages": 12, "vectors": 12, "bytes": 12 * 32 * 4}
    assert set(record.measured["speed"]) == {it["name"] for it in record.facts["models"][:3]}
    for of_model in record.measured["speed"].values():
        assert all(of_model["embeddings_per_second"][size] > 0 for size in ("1", "32"))


def test_whole_embeddings_in_float32_score_as_mteb_says(compared) -> None:
    _, record = compared
    for it in record.facts["models"]:
        whole = it["compressed"][0]
        assert (whole["dimensions"], whole["precision"]) == (it["dimensions"], "float32")
        assert whole["tasks"] == pytest.approx(it["scores"], abs=1e-4)
        sizes = {(each["dimensions"], each["precision"]): each["bytes"] for each in it["compressed"]}
        assert len(sizes) == 3 * 4
        assert (sizes[16, "int8"], sizes[16, "binary"], sizes[8, "binary, rescored"]) == (16, 2, 1)


def test_the_picture_is_kept_as_an_output(compared) -> None:
    run, record = compared
    for name in ("compressed.png", "compressed.svg"):
        assert record.outputs[name] == sha256(run.path("evaluate", name))


def test_of_local_tasks_nobody_knows_whether_a_model_was_trained_on_them(compared) -> None:
    _, record = compared
    for it in record.facts["models"]:
        assert it["zero_shot"] == {"first": "not known", "second": "not known"}
        assert (it["zero_shot_share"], it["zero_shot_average"]) == (None, None)
    assert record.facts["zero_shot_average"] is None


def test_two_models_of_one_name_are_told_before_anything_starts(tiny_model, tasks) -> None:
    with pytest.raises(InputError, match="models of the same name"):
        check_peers(model_recipe(tiny_model, tasks, compare=[str(tiny_model)]))


def test_an_endpoint_that_is_not_there_is_told_before_anything_starts(tiny_model, tasks) -> None:
    with pytest.raises(InputError, match="cannot be reached"):
        check_peers(model_recipe(tiny_model, tasks, compare=[{"endpoint": "http://127.0.0.1:9"}]))
