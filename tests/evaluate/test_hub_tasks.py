"""mteb's own tasks, read from a Hub in the layouts they have there, and a model at the revision it was pushed at: as on any machine."""

import json
import subprocess
import sys
from pathlib import Path

import mteb
import pytest

from medembed.evaluate.scores import METRICS
from tests.fixtures.hub import Hub
from tests.fixtures.hub_tasks import publish

HEADLINE = ("ArguAna", "MedicalQARetrieval", "NFCorpus", "PublicHealthQA", "TRECCOVID")
OTHERS = ("MedrxivClusteringS2S.v2", "CMedQAv2-reranking")

# Pushes the model, evaluates it at that revision, then lets mteb do the same by itself.
PROGRAM = """
import json, sys
from pathlib import Path
from huggingface_hub import HfApi
folder, out, *tasks = sys.argv[1:]
api = HfApi()
api.create_repo("medembed/tiny")
pushed = api.upload_folder(repo_id="medembed/tiny", folder_path=folder, commit_message="the model").oid
api.upload_file(repo_id="medembed/tiny", path_or_fileobj=b"{}", path_in_repo="config.json", commit_message="later, broken")

from medembed.evaluate.alone import measure_alone, summary
headline, others = tasks[:5], tasks[5:]
name = f"medembed/tiny@{pushed}"
measured = summary(measure_alone(name, headline, Path(out), languages=["eng"], batch_size=8))
aggregated = summary(measure_alone(name, others, Path(out), languages=[], batch_size=8))

# In all languages, and again in one: what stands of the others stays. With costs, of tasks in mteb's first form too.
from medembed.recipe import Development
from medembed.train.development import _of_task
whole, first_form = Path(out) / "whole", ["PublicHealthQA", "CUREv1"]
told = measure_alone(name, first_form, whole, languages=[], batch_size=8, costs=True).costs.facts["index"]
measure_alone(name, first_form, whole, languages=["eng"], batch_size=8)
index = {task: it["passages"] for task, it in told.items()}
(ranking,) = _of_task("PublicHealthQA", Development(tasks=["PublicHealthQA"]), ["eng"])
index["development"] = len(ranking.passages)

import mteb
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(folder, device="cpu")
english = mteb.get_tasks(tasks=headline, languages=["eng"], exclusive_language_filter=True)
alone = mteb.evaluate(model, [*english, *mteb.get_tasks(tasks=others)], cache=None, show_progress_bar=False)
scores = {it.task_name: next(iter(it.scores.values()))[0] for it in alone.task_results}
print(json.dumps([pushed, measured | aggregated, scores, index]))
"""


@pytest.mark.slow
def test_the_headline_tasks_are_scored_as_mteb_scores_them_at_the_pushed_revision(tiny_model, tmp_path: Path) -> None:
    with Hub(tmp_path / "hub") as hub:
        for task in (*HEADLINE, *OTHERS, "CUREv1"):
            at = mteb.get_task(task).metadata.dataset
            publish(hub, task, at["path"], at["revision"], rich=task != "CUREv1")
        command = [sys.executable, "-c", PROGRAM, str(tiny_model), str(tmp_path / "out"), *HEADLINE, *OTHERS]
        done = subprocess.run(command, env=hub.env(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        pushed, ours, theirs, index = json.loads(done.stdout.splitlines()[-1])

        results = tmp_path / "out" / "results" / "medembed__tiny" / pushed
        assert {path.stem for path in results.glob("*.json")} == {*HEADLINE, *OTHERS, "model_meta"}
        for task in (*HEADLINE, *OTHERS):
            assert ours[task]["main"] == pytest.approx(theirs[task]["main_score"], abs=1e-4)
            revision = mteb.get_task(task).metadata.dataset["revision"]
            assert json.loads((results / f"{task}.json").read_text())["dataset_revision"] == revision
        for task in HEADLINE:
            assert ours[task]["queries"] == 6 and 0 < ours[task]["main"] < 1
            for metric in METRICS:
                assert ours[task][metric] == pytest.approx(theirs[task][metric], abs=1e-4)
        (english,) = json.loads((results / "PublicHealthQA.json").read_text())["scores"]["test"]
        assert english["hf_subset"] == "english"
        assert "ndcg_at_10" not in ours["MedrxivClusteringS2S.v2"]

        assert index == {"PublicHealthQA": 6, "CUREv1": 1, "development": 6}
        (whole,) = (tmp_path / "out" / "whole").glob("results/*/*/PublicHealthQA.json")
        assert len(json.loads(whole.read_text())["scores"]["test"]) == 8


def test_a_task_that_no_hub_has_is_told_before_anything_is_encoded(tiny_model, tmp_path: Path) -> None:
    with Hub(tmp_path / "hub") as hub:
        options = ["--model", str(tiny_model), "--tasks", "NFCorpus,SciFact", "--run-dir", str(tmp_path / "out")]
        command = [sys.executable, "-m", "medembed", "evaluate", *options]
        done = subprocess.run(command, env=hub.env(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    for repo, task in (("mteb/nfcorpus", "NFCorpus"), ("mteb/scifact", "SciFact")):
        assert f"{repo}: the data of {task} cannot be loaded" in done.stderr
    assert not list(tmp_path.glob("out/**/*.rows"))
