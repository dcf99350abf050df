"""Candidate → release on another machine: judged, tried, promoted and tagged by what stands on the Hub; used by name and tag."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi

from medembed.evaluate.alone import measure_alone, summary
from medembed.provenance import manifest
from medembed.run import Run
from tests.fixtures.hub import READER, WRITER, Hub
from tests.publish.forked import Forge
from tests.publish.runs import dataset_run, model_run

DATASET, MODEL = "medembed/tiny-triplets", "medembed/tiny-embed"
BIN = Path(sys.executable).parent
IMPORTS = ("datasets", "medembed.cli", "medembed.publish.promotion")


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with Hub(tmp_path_factory.mktemp("hub")) as hub, Forge(hub, IMPORTS) as forge:
        yield forge


@pytest.fixture
def hub(forge: Forge) -> Hub:
    forge.hub.reset()
    return forge.hub


@dataclass
class Recipe:
    """A recipe's file, and what is done with it."""

    forge: Forge
    path: Path
    run: Run

    def candidate(self) -> str:
        """Bring the artifact to the Hub as a candidate; its commit."""
        code, said = self.forge.medembed("publish", str(self.path), "--run-dir", str(self.run.folder), "--candidate")
        assert code == 0, said
        return said.rpartition("`candidate: ")[2][:40]

    def name(self, candidate: str, **said: str) -> None:
        """Write the candidate into the recipe, as a person does."""
        recipe = yaml.safe_load(self.path.read_text())
        recipe["publish"] |= {"candidate": candidate, "tag": "v1.0.0"} | said
        self.path.write_text(yaml.safe_dump(recipe, sort_keys=False))

    def promote(self, *words: str, **environment: str) -> tuple[int, str]:
        return self.forge.medembed("promote", str(self.path), *words, **environment)


@pytest.fixture
def dataset(hub: Hub, forge: Forge, tmp_path: Path) -> Recipe:
    recipe, run = dataset_run(tmp_path, publish={"repo": DATASET})
    return Recipe(forge, tmp_path / f"{recipe.name}.yaml", run)


def test_a_candidate_is_tried_then_promoted_and_tagged_once(hub: Hub, dataset: Recipe) -> None:
    dataset.name(dataset.candidate())
    repo = hub.repos["dataset", DATASET]
    assert [commit.title for commit in repo.history()] == ["initial commit"] and len(repo.branches) == 2
    before = len(hub.log)
    code, said = dataset.promote("--dry-run")
    assert code == 0 and "nothing was changed" in said and "add        README.md" in said
    assert {method for method, path, _ in hub.log[before:]} == {"GET", "HEAD"}
    for _ in range(2):
        code, said = dataset.promote()
        assert code == 0 and "triplets: 6 rows, as its manifest tells" in said, said
        assert f"released as {repo.at('main').oid}" in said
        assert [commit.title for commit in repo.history()] == ["Publish tiny-triplets v1.0.0", "initial commit"]
        assert repo.tags == {"v1.0.0": repo.at("main").oid} and list(repo.branches) == ["main"]
    released, api = repo.at("main").oid, HfApi(endpoint=hub.url, token=WRITER)
    api.upload_file(path_or_fileobj=b"1", path_in_repo="later.json", repo_id=DATASET, repo_type="dataset")
    code, said = dataset.promote()  # what is released already does not take the place of what came after
    assert code == 0 and f"released as {released}" in said
    assert [commit.title for commit in repo.history()][1:] == ["Publish tiny-triplets v1.0.0", "initial commit"]
    assert repo.tags == {"v1.0.0": released}


def test_what_another_recipe_has_made_is_not_promoted(hub: Hub, dataset: Recipe) -> None:
    dataset.name(dataset.candidate(), about="other words")
    code, said = dataset.promote()
    assert code == 2 and "the candidate was made by another recipe: publish" in said
    dataset.name("0" * 40)
    code, said = dataset.promote()
    assert code == 2 and "404" in said and "0" * 40 in said
    assert len(hub.repos["dataset", DATASET].history()) == 1 and not hub.repos["dataset", DATASET].tags


def test_a_candidate_that_a_gate_keeps_back_or_that_lost_rows_is_not_promoted(hub: Hub, dataset: Recipe) -> None:
    candidate = dataset.candidate()
    repo, api = hub.repos["dataset", DATASET], HfApi(endpoint=hub.url, token=WRITER)
    branch = next(name for name in repo.branches if name != "main")
    told = json.loads(repo.read("provenance.json", candidate))

    def changed() -> str:
        data = json.dumps(told).encode()
        done = api.upload_file(
            path_or_fileobj=data, path_in_repo="provenance.json", repo_id=DATASET, repo_type="dataset", revision=branch
        )
        return str(done.oid)

    told["stages"]["mine"]["counts"]["triplets"] = 7
    dataset.name(changed())
    code, said = dataset.promote()
    assert code == 1 and "the candidate has 6 triplets, and its manifest tells of 7" in said
    del told["stages"]["curate"]
    dataset.name(changed())
    code, said = dataset.promote()
    assert code == 2 and "nobody has looked" in said and "nobody has compared" in said
    assert len(repo.history()) == 1 and not repo.tags


def test_a_job_that_proves_who_it_is_needs_no_secret_and_reaches_its_repository_alone(
    hub: Hub, dataset: Recipe
) -> None:
    dataset.name(dataset.candidate())
    hub.api.store.collections["medembed/models"] = []
    job = {"HF_TOKEN": ""} | hub.job()
    code, said = dataset.promote(**job)
    assert code == 2 and "gives this job no token" in said and "Trusted Publishers" in said
    hub.api.trusted.add(f"datasets/{DATASET}")
    dataset.name(dataset.candidate(), collection="medembed/models")
    code, said = dataset.promote(**job)
    assert code == 0 and "may not change the collection" in said, said  # it is added by a person, once
    assert hub.repos["dataset", DATASET].tags.keys() == {"v1.0.0"}


@pytest.mark.slow
def test_a_released_model_and_its_dataset_are_used_by_id_and_tag_by_unmodified_clients(
    hub: Hub, dataset: Recipe, tmp_path: Path, tiny_model: Path
) -> None:
    dataset.name(dataset.candidate())
    assert dataset.promote()[0] == 0
    its_recipe, its_run = dataset_run(tmp_path / "again", publish={"repo": DATASET})
    upstream = manifest(its_recipe, its_run)
    recipe, run = model_run(tmp_path / "m", tiny_model, publish={"repo": MODEL}, upstream=upstream)
    _judge(tmp_path / "m" / "tiny-task")
    model = Recipe(dataset.forge, tmp_path / "m" / f"{recipe.name}.yaml", run)
    model.name(model.candidate())
    code, said = model.promote()
    assert code == 1 and "does not score what its card tells" in said  # the fixture's results are invented
    _tell_the_true_score(run)
    model.name(model.candidate())
    code, said = model.promote()
    assert code == 0 and "tiny-task: nDCG@10" in said, said

    code_ = f"""if True:
        from datasets import load_dataset
        from sentence_transformers import MultiVectorEncoder, SentenceTransformer
        print(load_dataset("{DATASET}", "triplets", revision="v1.0.0")["train"].num_rows)
        print(SentenceTransformer("{MODEL}", revision="v1.0.0", device="cpu").encode_query("chest pain").shape)
        print(MultiVectorEncoder("{MODEL}", revision="v1.0.0", device="cpu").encode_query("chest pain").shape[1])
    """
    used = subprocess.run(
        [sys.executable, "-c", code_], env=hub.env(READER), capture_output=True, text=True, check=False
    )
    assert used.stdout.split("\n")[:2] == ["5", "(32,)"], used.stderr[-2000:]
    got = tmp_path / "got"
    command = [str(BIN / "hf"), "download", MODEL, "--revision", "v1.0.0", "--local-dir", str(got)]
    subprocess.run(command, env=hub.env(READER), capture_output=True, check=True)
    repo = hub.repos["model", MODEL]
    for path in repo.at("v1.0.0").files:
        assert (got / path).read_bytes() == repo.read(path, "v1.0.0")


def _judge(task: Path) -> None:
    """Give the folder with a corpus queries and judgments, so that it is a task."""
    (task / "queries.jsonl").write_text("".join(f'{{"_id": "q{n}", "text": "pain {n}"}}\n' for n in range(2)))
    (task / "qrels").mkdir()
    (task / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\t0\t1\nq1\t1\t1\n")


def _tell_the_true_score(run: Run) -> None:
    """Put what the model does score on its task into the record of its evaluation."""
    task, record = run.folder.parent.parent / "tiny-task", run.path("evaluate", "record.json")
    measured = measure_alone(
        str(run.path("train", "model")), [str(task)], run.folder / "alone", languages=["eng"], batch_size=8
    )
    told = json.loads(record.read_text())
    told["facts"]["tasks"]["tiny-task"]["ndcg_at_10"]["tuned"] = summary(measured)["tiny-task"]["ndcg_at_10"]
    record.write_text(json.dumps(told))
