"""`medembed evaluate --model`: any one model on any tasks, without a recipe."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from sentence_transformers import MultiVectorEncoder, SentenceTransformer

from medembed import report
from medembed.errors import InputError
from medembed.evaluate.alone import measure_alone, summary, tasks_of
from medembed.evaluate.costs import costs_of
from medembed.evaluate.encoders import find
from medembed.evaluate.encoders import load as load_encoder
from medembed.evaluate.scores import METRICS, measure
from medembed.leaderboard.board import Speeds
from medembed.models import Resolved
from medembed.recipe import Evaluate, Model
from medembed.run import sha256
from medembed.tasks import registry
from medembed.tasks.registry import load
from tests.fixtures.beir import JUDGMENTS, PASSAGES, QUERIES, write_beir
from tests.fixtures.models import make_tiny_model


@pytest.fixture
def task(tmp_path: Path) -> str:
    return str(write_beir(tmp_path / "mine"))


def measured(name: str, task: str, folder: Path, **settings: Any) -> Any:
    return measure_alone(name, [task], folder, languages=["eng"], batch_size=8, **settings)


def mteb_alone(model: Any, task: str) -> dict[str, float]:
    """What mteb gives the same model, left to itself."""
    (result,) = mteb.evaluate(model, load(task, ["eng"]), cache=None, show_progress_bar=False).task_results
    return result.scores["test"][0]


def assert_as_mteb(found: Any, alone: dict[str, float], task: str = "mine") -> None:
    for metric in METRICS:
        assert summary(found)[task][metric] == pytest.approx(alone[metric], abs=1e-4)


def sparse_model(folder: Path, tiny: Path) -> Path:
    from sentence_transformers.sparse_encoder import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    backbone = folder / "backbone"
    BertForMaskedLM(BertConfig.from_pretrained(tiny)).save_pretrained(backbone)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(backbone)
    made = SparseEncoder(modules=[MLMTransformer(str(backbone)), SpladePooling()], device="cpu")
    made.save(str(folder / "model"))
    return folder / "model"


def test_the_scores_are_those_that_mteb_gives_the_model_left_to_itself(tiny_model, task, tmp_path) -> None:
    found = measured(str(tiny_model), task, tmp_path / "out")
    assert_as_mteb(found, mteb_alone(SentenceTransformer(str(tiny_model), device="cpu"), task))


def test_late_interaction_and_sparse_models_too_also_from_kept_embeddings(tiny_model, task, tmp_path) -> None:
    from sentence_transformers.sparse_encoder import SparseEncoder

    late = tmp_path / "late"
    MultiVectorEncoder(str(tiny_model), device="cpu").save(str(late))
    sparse = sparse_model(tmp_path / "sparse", tiny_model)
    for folder, kind in ((late, MultiVectorEncoder), (sparse, SparseEncoder)):
        alone = mteb_alone(kind(str(folder), device="cpu"), task)
        out = tmp_path / f"out-{kind.__name__}"
        assert_as_mteb(measured(str(folder), task, out), alone)
        blocks = {path: path.stat().st_mtime_ns for path in out.rglob("*.rows")}
        assert blocks
        assert_as_mteb(measured(str(folder), task, out, again=True), alone)
        assert blocks == {path: path.stat().st_mtime_ns for path in out.rglob("*.rows")}


def test_each_task_is_told_with_whether_its_data_may_have_been_trained_on(tiny_model, task, tmp_path) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    found = measured(str(model), task, tmp_path / "out")
    assert summary(found)["mine"]["zero_shot"] == "not known"
    assert "zero-shot: not known" in report.scores("model", summary(found))
    (model / "provenance.json").write_text(json.dumps({"training_datasets": ["somebody/mine"]}))
    found = measured(str(model), task, tmp_path / "out")
    assert summary(found)["mine"]["zero_shot"] == "trained on"
    assert "zero-shot: no" in report.scores("model", summary(found))


def test_a_damaged_manifest_tells_nothing(tiny_model, task, tmp_path) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (model / "provenance.json").write_text("{not json")
    assert summary(measured(str(model), task, tmp_path / "out"))["mine"]["zero_shot"] == "not known"


def test_a_task_that_does_not_rank_has_no_costs(tiny_model, task, tmp_path, monkeypatch) -> None:
    clustering = mteb.get_task("MedrxivClusteringS2S.v2")
    monkeypatch.setattr(registry, "load", lambda name, languages: load(name, languages) if name == task else clustering)
    monkeypatch.setattr("medembed.evaluate.efficiency.SECONDS", 0)
    encoder = mteb.SentenceTransformerEncoderWrapper(SentenceTransformer(str(tiny_model), device="cpu"))
    evaluate = Evaluate(tasks=[task, clustering.metadata.name], languages=["eng"], batch_size=8)
    found = costs_of(encoder, evaluate, [])
    assert list(found.facts["index"]) == ["mine"] and found.facts["compressed"][0]["tasks"].keys() == {"mine"}


def test_what_a_model_costs_is_told_on_request(tiny_model, task, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("medembed.evaluate.efficiency.SECONDS", 0)
    found = measured(str(tiny_model), task, tmp_path / "out", costs=True)
    told = report.costs(found.costs.facts, found.costs.speed)
    assert "32 dimensions, one a text" in told and "embeddings/s in batches of 32" in told
    quality = {it["precision"]: it["average"] for it in found.costs.facts["compressed"]}
    assert quality["float32"] == pytest.approx(summary(found)["mine"]["ndcg_at_10"], abs=1e-4)
    assert f"binary, rescored         4 bytes a passage   nDCG@10 {100 * quality['binary, rescored']:.2f}" in told
    of_bm25 = measured("bm25", task, tmp_path / "out", costs=True).costs
    assert "not known of such a model" in report.costs(of_bm25.facts, of_bm25.speed)


def test_what_a_model_costs_is_kept_drawn_and_fit_for_the_leaderboard(tiny_model, task, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("medembed.evaluate.efficiency.SECONDS", 0)
    out = tmp_path / "out"
    for name in ("a-v1.5", "a-v1.6"):
        shutil.copytree(tiny_model, tmp_path / name)
        measured(str(tmp_path / name), task, out, costs=True, cut_to=[16])
    measured(str(tmp_path / "a-v1.5"), task, out)  # takes away nothing of what is known
    told = {it["name"]: it for it in json.loads((out / "models.json").read_text())}
    assert told.keys() == {"a-v1.5", "a-v1.6"} and told["a-v1.5"]["zero_shot"] == {"mine": "not known"}
    assert {it["dimensions"] for it in told["a-v1.5"]["compressed"]} == {32, 16}
    drawn = {f"compressed-{name}.{kind}" for name in told for kind in ("png", "svg")}
    assert {path.name for path in out.glob("compressed-*")} == drawn
    speeds = Speeds.model_validate_json((out / "speeds.json").read_bytes())
    assert speeds.embeddings_per_second == {
        name: it["speed"]["embeddings_per_second"]["32"] for name, it in told.items()
    }
    speeds = {"device": "another", "embeddings_per_second": {"c": 1.0}}
    (out / "speeds.json").write_text(json.dumps(speeds))
    measured(str(tmp_path / "a-v1.5"), task, out, costs=True)
    assert json.loads((out / "speeds.json").read_text())["embeddings_per_second"].keys() == {"a-v1.5"}


def test_a_model_that_makes_its_own_batches_is_asked_for_those_of_the_user(tiny_model, task, tmp_path) -> None:
    class Own:
        settings = ("its own",)

        def __init__(self) -> None:
            self._model = mteb.SentenceTransformerEncoderWrapper(SentenceTransformer(str(tiny_model), device="cpu"))
            self.mteb_model_meta, self.asked = self._model.mteb_model_meta, set()

        def encode(self, inputs: Any, **settings: Any) -> Any:
            self.asked.add(settings["batch_size"])
            return self._model.encode(inputs, **settings)

        def similarity(self, one: Any, other: Any) -> Any:
            return self._model.similarity(one, other)

        similarity_pairwise = similarity

    model, evaluate = Own(), Evaluate(tasks=[task], languages=["eng"], batch_size=3)
    found = measure(model, Resolved("org/own", "1", ""), evaluate, tmp_path / "out")
    assert len(found.tasks["mine"].scores) == 6 and model.asked == {3}


def test_bm25_is_measured_by_the_same_command(task, tmp_path) -> None:
    found = summary(measured("bm25", task, tmp_path / "out"))["mine"]
    assert found["ndcg_at_10"] > 0.5  # the queries share words with their passages
    (result,) = (tmp_path / "out" / "results" / "medembed__bm25").glob("*/mine.json")
    assert json.loads(result.read_text())["scores"]["test"][0]["main_score"] == pytest.approx(found["main"])


def test_results_stand_as_mteb_reads_them_with_two_revisions_apart(tiny_model, task, tmp_path) -> None:
    other = make_tiny_model(tmp_path / "other", seed=5)
    for number, weights in enumerate((tiny_model, other)):
        place = shutil.copytree(weights, tmp_path / str(number) / "same-name")
        measured(str(place), task, tmp_path / "out")
    loaded = mteb.ResultCache(tmp_path / "out").load_results(tasks=["mine"], require_model_meta=False)
    assert {it.model_name for it in loaded.model_results} == {"local/same-name"}
    revisions = {sha256(it / "model.safetensors")[:40] for it in (tiny_model, other)}
    assert {it.model_revision for it in loaded.model_results} == revisions


def test_a_result_of_an_older_mteb_gives_way(tiny_model, task, tmp_path) -> None:
    measured(str(tiny_model), task, tmp_path / "out")
    (result,) = tmp_path.glob("out/results/*/*/mine.json")
    now = result.read_bytes()
    result.write_text(json.dumps({"mteb_version": "1.14.0", "task_name": "mine", "scores": {}}))
    measured(str(tiny_model), task, tmp_path / "out")
    assert result.read_bytes() == now


def test_what_stands_is_told_without_loading_a_model_or_mteb(tiny_model, task, tmp_path) -> None:
    said = []
    for more in ([], ["--overwrite"], []):
        arguments = ["evaluate", "--model", str(tiny_model), "--tasks", task, "--run-dir", str(tmp_path / "out"), *more]
        program = f"import sys; from medembed import cli; sys.argv[1:] = {arguments}; cli.main(); "
        program += "print(sorted({'torch', 'mteb', 'sentence_transformers'} & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        said.append(done.stdout)
    assert "mean" not in said[0] and "6 queries, 12 passages" in said[0]
    assert said[1] == said[0]
    assert said[2] == said[0].replace(said[0].splitlines()[-1], "[]")


def test_changed_settings_of_a_local_model_are_another_measurement(tiny_model, task, tmp_path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model-of-mine")
    before = measured(str(model), task, tmp_path / "out").measured.tasks["mine"]
    config = json.loads((model / "config_sentence_transformers.json").read_text())
    config["prompts"] = {"query": "fever antibiotic ", "document": ""}
    (model / "config_sentence_transformers.json").write_text(json.dumps(config))
    after = measured(str(model), task, tmp_path / "out").measured.tasks["mine"]
    assert not np.array_equal(before.scores["ndcg_at_10"], after.scores["ndcg_at_10"])


@pytest.mark.parametrize(
    ("name", "tasks", "what"),
    [
        ("nothing", ["{task}"], "names no model"),
        ("./nowhere", ["{task}"], "there is no such folder"),
        ("bm25", ["./nowhere"], "there is no such folder"),
        ("bm25", ["NFCorpsu"], "mteb has no task 'NFCorpsu'"),
        ("bm25", ["CIFAR10"], "is no task of texts, but of image"),
        ("nvidia/NV-Embed-v2", ["{task}"], "brings code of its own, which would run on this machine"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_is_encoded(name, tasks, what, task, tmp_path) -> None:
    with pytest.raises(InputError, match=what):
        measure_alone(name, [it.format(task=task) for it in tasks], tmp_path / "o", languages=["eng"], batch_size=8)
    assert not list(tmp_path.glob("o/**/*.rows"))


def test_every_fault_of_every_task_is_told_at_once(tmp_path) -> None:
    broken = write_beir(tmp_path / "broken", judgments=[*JUDGMENTS, ("q1", "nowhere", 1)])
    doubled = write_beir(tmp_path / "doubled", passages=[*PASSAGES, PASSAGES[0]])
    empty = write_beir(tmp_path / "empty", queries=[*QUERIES[1:], ("q1", " ")])
    with pytest.raises(InputError) as caught:
        measure_alone("bm25", [str(broken), str(doubled), str(empty)], tmp_path / "o", languages=[], batch_size=8)
    told = str(caught.value)
    for fault in ("judges passages that corpus.jsonl lacks", "on an earlier line", "text of a query is empty"):
        assert fault in told


def test_a_model_with_code_of_its_own_is_refused_unless_that_is_allowed(tiny_model, task, tmp_path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "theirs")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "modeling.Theirs"}}))
    (model / "modeling.py").write_text(
        "from pathlib import Path\nfrom transformers import BertModel\n"
        f"Path({str(tmp_path / 'it-ran')!r}).touch()\nclass Theirs(BertModel): ...\n"
    )
    with pytest.raises(InputError, match=r"brings code of its own \(config.json names it\)") as caught:
        measured(str(model), task, tmp_path / "out")
    assert "--allow-remote-code" in str(caught.value) and not (tmp_path / "it-ran").exists()
    measured(str(model), task, tmp_path / "out", allow_remote_code=True)
    assert (tmp_path / "it-ran").exists()


def test_prompts_and_length_of_the_recipe_hold_for_every_kind_of_model(tiny_model) -> None:
    asked = Model(model=str(tiny_model), max_length=17, prompts={"query": "query: "})
    for allowed in (False, True):  # the second is loaded another way
        loaded = load_encoder(asked, allow_remote_code=allowed)
        assert (loaded.max_seq_length, loaded.prompts["query"]) == (17, "query: ")


def test_a_model_of_mtebs_registry_is_refused_by_what_its_files_ask_for(tmp_path, monkeypatch) -> None:
    """mteb's loader of this one trusts the repository's code, without saying so in its settings."""
    from mteb.models.model_implementations import MODEL_REGISTRY

    name = "Quazim0t0/Byrne-Embed"
    commit = MODEL_REGISTRY[name].revision
    kept = tmp_path / f"models--{name.replace('/', '--')}" / "snapshots" / commit
    kept.mkdir(parents=True)
    for file, theirs in (
        ("config.json", {}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.T", None]}}),
    ):
        (kept / file).write_text(json.dumps(theirs))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"brings code of its own \(tokenizer_config.json names it\)"):
        find(name, allow_remote_code=False)


def test_another_tokenizer_beside_the_same_weights_makes_other_embeddings(tiny_model, task, tmp_path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "theirs")
    before = summary(measured(str(model), task, tmp_path / "out"))
    told = json.loads((model / "tokenizer.json").read_text())
    vocabulary = told["model"]["vocab"]
    words = [word for word in vocabulary if not word.startswith("[")]
    numbers = [vocabulary[word] for word in words]
    vocabulary.update(zip(words, numbers[7:] + numbers[:7], strict=True))
    (model / "tokenizer.json").write_text(json.dumps(told))
    again = summary(measured(str(model), task, tmp_path / "out"))
    assert again == summary(measured(str(model), task, tmp_path / "elsewhere")) != before


def test_a_benchmark_is_known_by_its_name() -> None:
    assert {"NFCorpus", "MedrxivClusteringP2P.v2", "CMedQAv2-reranking"} < set(tasks_of("MTEB(Medical, v1)"))
    with pytest.raises(InputError, match=r"mteb has no benchmark 'MTEB\(Medicine\)'"):
        tasks_of("MTEB(Medicine)")
    with pytest.raises(InputError, match="asks only some languages or splits of 6 of its tasks"):
        tasks_of("MTEB(eng, v2)")
