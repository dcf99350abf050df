"""Models that were measured before, side by side: which are meant, what is told of them, and that nothing is encoded for it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

from medembed import stages
from medembed.cli import app
from medembed.errors import InputError
from medembed.evaluate.alone import measure_alone
from medembed.evaluate.compare import Findings, compare_named, markdown, measured_in
from medembed.evaluate.duels import head_to_head
from medembed.evaluate.scores import measure
from medembed.models import Resolved
from medembed.recipe import Evaluate, ModelRecipe
from tests.evaluate.runs import model_recipe, trained
from tests.fixtures.beir import JUDGMENTS, PASSAGES, QUERIES, write_beir
from tests.fixtures.models import make_tiny_model

OTHER = "org/other-embedder"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> ModelRecipe:
    folder = tmp_path_factory.mktemp("tasks")
    tasks = [
        write_beir(folder / "first"),
        write_beir(folder / "second", passages=[*PASSAGES[::-1][1:], ("d12", "", "x")]),
    ]
    return model_recipe(tiny_model, [str(task) for task in tasks])


@pytest.fixture(scope="module")
def run_folder(recipe: ModelRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that was evaluated, as `medembed evaluate` leaves it."""
    folder = tmp_path_factory.mktemp("runs") / "test-model"
    tuned = make_tiny_model(tmp_path_factory.mktemp("tuned"), seed=3)
    stages.perform("evaluate", recipe, trained(recipe, folder, tuned))
    return folder


@pytest.fixture(scope="module")
def measurements(recipe: ModelRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the measurements of one more model."""
    folder = tmp_path_factory.mktemp("other") / "measured"
    model = SentenceTransformer(str(make_tiny_model(tmp_path_factory.mktemp("third"), seed=5)), device="cpu")
    measure(model, Resolved(OTHER, "c" * 40, ""), recipe.evaluate, folder)
    return folder


def base_name(recipe: ModelRecipe) -> str:
    return Path(recipe.base.model).parent.name


def test_a_run_folder_stands_for_its_trained_model_and_a_name_for_what_was_measured_there(recipe, run_folder) -> None:
    found = compare_named([base_name(recipe), str(run_folder)], [])
    assert list(found.models) == [base_name(recipe), "test-model"]
    record = json.loads((run_folder / "evaluate" / "record.json").read_text())
    (duel,) = found.duels
    assert duel.verdict == record["facts"]["verdict"]
    for task, facts in record["facts"]["tasks"].items():
        for metric in ("ndcg_at_10", "mrr_at_10", "recall_at_10"):
            mine = duel.tasks[task][metric]
            assert (mine.base, mine.tuned) == (facts[metric]["base"], facts[metric]["tuned"])


def test_three_models_are_compared_with_the_first(recipe, run_folder, measurements) -> None:
    found = compare_named([str(run_folder), base_name(recipe), str(measurements)], [])
    assert [(duel.base, duel.tuned) for duel in found.duels] == [
        ("test-model", base_name(recipe)),
        ("test-model", OTHER),
    ]
    assert found.models[OTHER] == "c" * 40


def test_the_queries_that_changed_most_are_told_by_their_ids(recipe, run_folder) -> None:
    (duel,) = compare_named([base_name(recipe), str(run_folder)], []).duels
    scores = pq.read_table(run_folder / "evaluate" / "scores.parquet").to_pylist()
    changes = {(it["task"], it["query_id"]): it["tuned_ndcg_at_10"] - it["base_ndcg_at_10"] for it in scores}
    rising = sorted(changes.values(), reverse=True)
    told = [changes[it.task, it.query_id] for it in duel.gained]
    assert told == [change for change in rising if change > 0][:10]
    told = [changes[it.task, it.query_id] for it in duel.lost]
    assert told == [change for change in rising[::-1] if change < 0][:10]
    wins = sum(task["ndcg_at_10"].wins for task in duel.tasks.values())
    losses = sum(task["ndcg_at_10"].losses for task in duel.tasks.values())
    assert (wins, losses) == (sum(np.array(rising) > 0), sum(np.array(rising) < 0))
    assert duel.average["ndcg_at_10"].wins == wins
    assert wins + losses > 0


def test_the_mean_over_zero_shot_tasks_is_told_where_the_run_knows_them(recipe, run_folder, tmp_path) -> None:
    known = Path(shutil.copytree(run_folder, tmp_path / "run"))
    path = known / "evaluate" / "record.json"
    record = json.loads(path.read_text())
    for it in record["facts"]["models"]:
        it["zero_shot"] = {"first": "zero-shot", "second": "trained on"}
    path.write_text(json.dumps(record))
    (duel,) = compare_named([base_name(recipe), str(known)], [known]).duels
    zero_shot, first = duel.zero_shot_average["ndcg_at_10"], duel.tasks["first"]["ndcg_at_10"]
    assert (zero_shot.base, zero_shot.tuned) == (first.base, first.tuned)
    assert zero_shot.tuned != duel.average["ndcg_at_10"].tuned
    assert "mean of zero-shot tasks" in markdown(compare_named([base_name(recipe), str(known)], [known]))
    (unknown,) = compare_named([base_name(recipe), str(run_folder)], []).duels
    assert unknown.zero_shot_average is None
    other = Path(
        shutil.copytree(known, tmp_path / "another-run")
    )  # knows another task of the same models, and disagrees on one
    for it in record["facts"]["models"]:
        it["zero_shot"] = {"second": "zero-shot", "third": "zero-shot"}
    (other / "evaluate" / "record.json").write_text(json.dumps(record))
    older = Path(shutil.copytree(known, tmp_path / "older-run"))
    (older / "evaluate" / "record.json").write_text(json.dumps({"facts": {}}))
    (both,) = compare_named([base_name(recipe), str(known)], [known, other, older]).duels
    assert both.zero_shot_average["ndcg_at_10"].tuned == zero_shot.tuned


def test_what_is_zero_shot_is_known_of_models_that_were_measured_alone(tiny_model, tmp_path) -> None:
    tasks = [str(write_beir(tmp_path / name)) for name in ("one", "other")]
    for name in ("a", "b"):
        model = Path(shutil.copytree(tiny_model, tmp_path / name))
        measure_alone(str(model), tasks, tmp_path / "out", languages=["eng"], batch_size=8)
    told = json.loads((tmp_path / "out" / "models.json").read_text())
    assert [it["zero_shot"] for it in told] == [{"one": "not known", "other": "not known"}] * 2  # as of all local tasks
    for it in told:
        it["zero_shot"] = {"one": "zero-shot", "other": "zero-shot" if it["name"] == "a" else "trained on"}
    (tmp_path / "out" / "models.json").write_text(json.dumps(told))
    (duel,) = compare_named(["a", "b"], [tmp_path / "out"]).duels
    assert duel.zero_shot_average["ndcg_at_10"].tuned == duel.tasks["one"]["ndcg_at_10"].tuned


def test_a_folder_of_results_that_is_no_measurement_is_passed_over(run_folder, tmp_path, monkeypatch) -> None:
    runs = tmp_path / "runs"
    for path in (
        "evaluate/results/a__b/1/NFCorpus.json",
        "evaluate/results/a__b/1/SciFact.json",
        "small/x/results/note.txt",
    ):
        (runs / path).parent.mkdir(parents=True, exist_ok=True)
        (runs / path).write_text("{}")
    assert measured_in(runs) == measured_in(runs / "small") == []
    monkeypatch.chdir(runs)
    with pytest.raises(InputError, match="no model of that name"):
        compare_named(["small", "other"], [runs])


def test_a_task_that_does_not_rank_is_left_out_and_told(run_folder, tmp_path, caplog) -> None:
    known = Path(shutil.copytree(run_folder, tmp_path / "run"))
    (scores, *_) = sorted(known.glob("measured/*/scores.parquet"))
    scores.unlink()
    with caplog.at_level("INFO", "medembed"):
        found = measured_in(known)
    assert sum(len(it.tasks) for it in found) == 3
    assert "does not rank" in caplog.text


def test_no_text_is_told(recipe, run_folder, measurements) -> None:
    found = compare_named([base_name(recipe), str(run_folder), str(measurements)], [])
    for told in (markdown(found), json.dumps(found.as_json())):
        assert not any(text in told for _, text in QUERIES)
        assert "q1" in told


def test_a_cell_is_a_task_and_a_metric_of_mteb_at_a_depth() -> None:
    models = {
        "a": {("t", "ndcg_at_10"): 0.5, ("t", "map_at_1"): 0.3, ("u", "ndcg_at_10"): 0.1, ("v", "ndcg_at_10"): 1.0},
        "b": {("t", "ndcg_at_10"): 0.4, ("t", "map_at_1"): 0.3, ("u", "ndcg_at_10"): 0.2},
        "c": {("w", "ndcg_at_10"): 0.4},
    }
    won = head_to_head(models)
    assert won == {"a": {"b": 0.3333}, "b": {"a": 0.3333}, "c": {}}


def test_the_matrix_counts_all_metrics_that_mteb_kept(recipe, run_folder) -> None:
    found = compare_named([base_name(recipe), str(run_folder)], []).head_to_head
    counted = {"base": {}, "tuned": {}}
    for path in (run_folder / "evaluate" / "results").glob("*/*/*.json"):
        if path.stem != "model_meta":
            who = "tuned" if path.parent.parent.name == "local__test-model" else "base"
            (scores,) = json.loads(path.read_text())["scores"]["test"]
            depths = {name: value for name, value in scores.items() if "_at_" in name and "nauc" not in name}
            names = ("ndcg", "map", "recall", "precision", "mrr")
            counted[who] |= {(path.stem, n): v for n, v in depths.items() if n.split("_at_")[0] in names}
    assert len(counted["base"]) > 30
    won = np.mean([counted["tuned"][cell] > counted["base"][cell] for cell in counted["base"]])
    assert found["test-model"][base_name(recipe)] == pytest.approx(won, abs=1e-4)


def test_the_command_prints_markdown_or_json(recipe, run_folder, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").symlink_to(run_folder.parent)
    Path(base_name(recipe)).mkdir()  # a folder that happens to be called so
    runner = CliRunner()
    told = runner.invoke(app, ["compare", base_name(recipe), "test-model"])
    assert told.exit_code == 0, told.output
    assert "| first | nDCG@10 |" in told.stdout
    as_json = json.loads(runner.invoke(app, ["compare", base_name(recipe), "test-model", "--json"]).stdout)
    assert set(as_json) == {"models", "duels", "head_to_head"}
    assert as_json["duels"][0]["tasks"]["first"]["ndcg_at_10"]["corrected_p"] <= 1


def faults_of(names: list[str], places: list[Path]) -> str:
    with pytest.raises(InputError) as caught:
        compare_named(names, places)
    return str(caught.value)


def test_what_is_not_found_is_told_with_what_was_measured(recipe, run_folder, tmp_path) -> None:
    told = faults_of(["no-such", "neither", str(run_folder)], [])
    assert "no-such is no folder" in told
    assert "neither is no folder" in told
    assert f"Measured were: {', '.join(sorted([base_name(recipe), 'test-model']))}" in told
    assert "holds no measurements" in faults_of([str(tmp_path), str(run_folder)], [])


def test_a_folder_of_several_models_wants_a_name(run_folder) -> None:
    assert "holds measurements of 2 models" in faults_of([str(run_folder / "measured"), str(run_folder)], [])


def test_a_run_that_was_not_evaluated_is_told(recipe, tiny_model, tmp_path) -> None:
    run = trained(recipe, tmp_path / "new", tiny_model)
    assert "has not been evaluated here" in faults_of([str(run.folder), "x"], [])


def test_a_model_is_not_compared_with_itself(run_folder) -> None:
    assert "is named twice" in faults_of([str(run_folder), "test-model"], [])


def test_two_revisions_of_a_model_are_told_apart(recipe, measurements, tmp_path) -> None:
    model = SentenceTransformer(str(make_tiny_model(tmp_path / "newer", seed=6)), device="cpu")
    measure(model, Resolved(OTHER, "d" * 40, ""), recipe.evaluate, tmp_path / "newer-measured")
    places = [measurements, tmp_path / "newer-measured"]
    assert f"{OTHER}@cccccccccccc, {OTHER}@dddddddddddd" in faults_of(["other-embedder", "x"], places)
    found = compare_named([f"{OTHER}@ccc", f"{OTHER}@ddd"], places)
    assert list(found.models) == [f"{OTHER}@cccccccccccc", f"{OTHER}@dddddddddddd"]


def of_another_task(tmp_path: Path, recipe: ModelRecipe, **changes: object) -> Findings:
    task = str(write_beir(tmp_path / "changed" / "first", **changes))
    for name, it in (("one", recipe.evaluate.tasks[0]), ("two", task)):
        model = SentenceTransformer(recipe.base.model, device="cpu")
        measure(model, Resolved(f"org/{name}", "a" * 40, ""), Evaluate(tasks=[it]), tmp_path / name)
    return compare_named([str(tmp_path / "one"), str(tmp_path / "two")], [])


def test_measurements_of_other_data_are_not_compared(recipe, tmp_path) -> None:
    with pytest.raises(InputError, match="first was measured at two revisions"):
        of_another_task(tmp_path, recipe, passages=[*PASSAGES[:-1], ("d12", "", "something else")])


def test_measurements_with_other_queries_are_not_compared(recipe, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("medembed.tasks.beir.content_hash", lambda folder: "the same")
    with pytest.raises(InputError, match="other queries: 1 only in the first, 0 only in the second"):
        of_another_task(tmp_path, recipe, judgments=[it for it in JUDGMENTS if it[0] != "q6"])


def test_models_without_a_task_in_common_are_not_compared(recipe, tmp_path, measurements) -> None:
    model = SentenceTransformer(recipe.base.model, device="cpu")
    third = Evaluate(tasks=[str(write_beir(tmp_path / "third"))])
    measure(model, Resolved("org/alone", "a" * 40, ""), third, tmp_path / "alone")
    assert "not measured on the same tasks" in faults_of([str(tmp_path / "alone"), str(measurements)], [])


def test_of_two_measurements_of_a_model_on_a_task_the_newer_counts(recipe, tmp_path) -> None:
    model = SentenceTransformer(recipe.base.model, device="cpu")
    for length in (8, 16):
        model.max_seq_length = length
        newer = measure(model, Resolved("org/twice", "a" * 40, ""), Evaluate(tasks=recipe.evaluate.tasks[:1]), tmp_path)
    (found,) = measured_in(tmp_path)
    assert found.tasks["first"].folder == newer.tasks["first"].folder


def test_queries_about_one_note_are_drawn_together(recipe, tmp_path) -> None:
    notes = {"q1": "note 1", "q2": "note 1", "q3": "note 1", "q4": "note 2", "q5": "note 2"}  # q6 stands alone
    for place, about in (("alone", {}), ("together", notes), ("one note", dict.fromkeys([q for q, _ in QUERIES], "n"))):
        task = str(write_beir(tmp_path / place / "first", notes=about))
        model = SentenceTransformer(recipe.base.model, device="cpu")
        measured = measure(model, Resolved("org/base", "a" * 40, ""), Evaluate(tasks=[task]), tmp_path)
        clusters = measured.tasks["first"].scores["cluster"].to_pylist()
        assert len(set(clusters)) == {"alone": 6, "together": 3, "one note": 1}[place]
