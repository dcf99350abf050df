"""Notes in, published model out, as a user does it: the command, a live (loopback) server and Hub, and kill -9 in every stage."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from medembed.publish.cards import model_card
from medembed.run import sha256
from tests.fixtures.beir import write_beir
from tests.fixtures.hub import Hub
from tests.fixtures.tgi import TGI
from tests.generate.conftest import note, write_notes

STAGES = [("dataset", stage) for stage in ("generate", "curate", "mine", "publish")]
STAGES += [("model", stage) for stage in ("train", "evaluate", "publish")]


@dataclass
class Bench:
    """A folder with recipes for a dataset and a model, and the commands that run them there."""

    folder: Path
    environment: dict[str, str]

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "medembed", *arguments]

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stderr[-3000:]
        return done

    def kill_in(self, stage: tuple[str, str], *arguments: str) -> None:
        """Start the command, and kill -9 it and all its children soon after a stage has begun."""
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        begun = self.folder / "runs" / stage[0] / stage[1] / "started.json"
        while not begun.exists():
            assert process.poll() is None, f"ended before {stage} began"
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def artifacts(self) -> dict[str, str]:
        """Every published file by hash; of the manifest all but `measured`, which a clock may change, and the card without it."""
        found = {}
        for path in sorted((self.folder / "hub").rglob("*")):
            if path.name == "provenance.json":
                manifest = json.loads(path.read_text())
                del manifest["measured"]
                found[str(path.relative_to(self.folder))] = json.dumps(manifest, sort_keys=True)
            elif path.name == "README.md" and path.parent.name == "model":
                manifest = json.loads((path.parent / "provenance.json").read_text())
                assert path.read_text() == model_card(manifest)
                found[str(path.relative_to(self.folder))] = model_card(manifest | {"measured": {}})
            elif path.is_file():
                found[str(path.relative_to(self.folder))] = sha256(path)
        return found


def make(folder: Path, tiny_model: Path, environment: dict[str, str] | None = None) -> Bench:
    write_notes(folder / "notes.jsonl", [note(n) for n in range(12)])
    write_beir(folder / "held-out")
    (folder / "dataset.yaml").write_text(
        "kind: dataset\n"
        "name: dataset\n"
        "notes: [{source: ./notes.jsonl, license: cc0-1.0}]\n"
        "generate: {endpoints: ['http://127.0.0.1:9'], queries: {keyword: 2, question: 1}}\n"
        f"mine: {{retriever: {tiny_model}, negatives: 1, fewer: fill, relative_margin: 1}}\n"
        "publish: {folder: hub/dataset}\n"
    )
    (folder / "model.yaml").write_text(
        "kind: model\n"
        "name: model\n"
        f"base: {tiny_model}\n"
        "data: {dataset: ./dataset.yaml}\n"
        "train: {batch_size: 4, epochs: 1, save_steps: 2, learning_rate: 1.0e-3}\n"
        "evaluate: {tasks: [./held-out], resamples: 200}\n"
        "publish: {folder: hub/model, ask: chest pain on exertion}\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | (environment or {})
    return Bench(folder, environment)


@pytest.fixture(scope="module")
def tgi() -> Iterator[TGI]:
    with TGI(seconds=0.05) as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, tgi: TGI) -> tuple[Bench, str]:
    """A bench on which `medembed run` has gone through once, and what it said."""
    bench = make(tmp_path_factory.mktemp("undisturbed"), tiny_model)
    return bench, bench.run("run", "model.yaml", "--endpoint", tgi.url).stdout


@pytest.mark.slow
def test_one_command_goes_from_notes_to_a_published_model(undisturbed: tuple[Bench, str]) -> None:
    bench, said = undisturbed
    assert [line.split()[0] for line in said.splitlines()[:7]] == [stage for _, stage in STAGES]
    assert "nDCG@10" in said and "MRR@10" in said and "Recall@10" in said
    assert sum(said.count(f"\n{verdict} ") for verdict in ("WIN", "MARGINAL", "REGRESSION")) == 1
    assert "chest pain on exertion" in said  # asked of the published model
    code = (
        "from sentence_transformers import SentenceTransformer as S; from datasets import load_dataset as L; "
        "assert S('hub/model').encode_query('q').shape; assert L('hub/dataset', 'triplets')['train'].num_rows"
    )
    subprocess.run(
        [sys.executable, "-c", code], cwd=bench.folder, env=bench.environment, check=True, capture_output=True
    )


@pytest.mark.slow
def test_a_second_run_asks_nobody_and_does_nothing_again(undisturbed: tuple[Bench, str], tgi: TGI) -> None:
    bench, _ = undisturbed
    before, asked = bench.artifacts(), len(tgi.asked)
    said = bench.run("run", "model.yaml", f"dataset.generate.endpoints=[{tgi.url}]").stdout
    assert len(tgi.asked) == asked
    assert said.count("done before") == len(STAGES)
    assert bench.artifacts() == before


@pytest.mark.slow
def test_a_card_cannot_tell_settings_that_a_stage_was_not_done_with(undisturbed: tuple[Bench, str]) -> None:
    done = undisturbed[0].run("publish", "model.yaml", "train.epochs=7", check=False)
    assert done.returncode == 2
    assert "`train` was done with other settings" in done.stderr


def test_ctrl_c_stops_with_a_word_and_its_exit_code(tiny_model: Path, tmp_path: Path) -> None:
    bench = make(tmp_path, tiny_model)
    with TGI(seconds=30) as slow:
        command = bench.command("generate", "dataset.yaml", "--endpoint", slow.url)
        process = subprocess.Popen(command, cwd=tmp_path, env=bench.environment, stderr=subprocess.PIPE, text=True)
        while not slow.most_in_flight:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert "the same command goes on" in told and "Traceback" not in told


@pytest.mark.slow
def test_kill_9_in_each_stage_and_the_same_command_end_like_an_undisturbed_run(
    undisturbed: tuple[Bench, str], tiny_model: Path, tmp_path: Path, tgi: TGI
) -> None:
    bench = make(tmp_path, tiny_model)
    command = ("run", "model.yaml", "--endpoint", tgi.url)
    for stage in STAGES:
        bench.kill_in(stage, *command)
    bench.run(*command)
    assert bench.artifacts() == undisturbed[0].artifacts()


@pytest.mark.slow
def test_pairs_alone_are_published_to_a_hub_and_used_by_repo_id(tiny_model: Path, tmp_path: Path) -> None:
    rows = [
        {"question": f"what is finding {n}?", "answer": f"Finding {n} is sign number {n * 7} of disease {n}."}
        for n in range(24)
    ]
    (tmp_path / "faq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Hub(tmp_path / "server") as hub:
        bench = make(tmp_path, tiny_model, {"HF_HUB_OFFLINE": "0"} | hub.env(home=tmp_path / "home"))
        (tmp_path / "pairs.yaml").write_text(
            "kind: dataset\n"
            "name: pairs\n"
            "pairs: [{source: ./faq.jsonl, license: cc-by-4.0, columns: {query: question, positive: answer}}]\n"
            # Without the last two nothing goes to a public repository.
            "curate: [duplicates, decontaminate: {tasks: [./held-out]}, phi: redact]\n"
            f"mine: {{retriever: {tiny_model}, negatives: 1, fewer: fill, relative_margin: 1}}\n"
            "publish: {repo: medembed/pairs}\n"
        )
        bench.run("run", "pairs.yaml")
        bench.run(
            "run",
            "model.yaml",
            "data.dataset=medembed/pairs",
            "publish.repo=medembed/model",
            "publish.folder=null",
            "publish.ask=null",
        )
        code = "from sentence_transformers import SentenceTransformer as S; print(S('medembed/model').encode_query('q').shape)"
        environment = bench.environment | {"HF_HOME": str(tmp_path / "elsewhere")}
        done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "(32,)"
    provenance = json.loads((tmp_path / "runs" / "model" / "publish" / "repo" / "provenance.json").read_text())
    assert provenance["upstream"]["name"] == "pairs"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "model.yaml", "data.dataset=./gone.yaml"], "there is no"),
        (["run", "model.yaml", "base=org/unknown"], "cannot be resolved offline"),
        (["run", "model.yaml", "dataset.notes.0.columns={text: body}"], "has no column body"),
        (["run", "model.yaml"], "cannot be reached"),
        (["train", "model.yaml"], "has not been run"),
        (["train", "dataset.yaml"], "has no stage `train`"),
        (["evaluate", "model.yaml"], "Run `medembed train`"),
        (["curate", "model.yaml"], "has no stage `curate`"),
        (["publish", "model.yaml", "--dry-run"], "Run `medembed train`"),
        (["run", "model.yaml", "--nonsense"], "--nonsense"),
        (["run"], "RECIPE"),
    ],
)
def test_what_cannot_work_is_told_plainly_before_it_starts(
    tiny_model: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    done = make(tmp_path, tiny_model).run(*arguments, check=False)
    assert done.returncode == 2, done.stderr[-2000:]
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_faults_of_both_recipes_and_of_all_that_they_name_are_told_at_once(tiny_model: Path, tmp_path: Path) -> None:
    bench = make(tmp_path, tiny_model)
    done = bench.run(
        "validate", "model.yaml", "train.epochs=0", "dataset.mine.negatives=0", "dataset.split.dev=2", check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("error:") == 3
    (tmp_path / "held-out" / "queries.jsonl").unlink()
    done = bench.run("run", "model.yaml", "dataset.notes.0.columns={text: body}", check=False)
    assert done.returncode == 2
    assert "has no column body" in done.stderr and "queries.jsonl" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_full_disk_is_told_and_the_same_command_goes_on_when_there_is_space(
    tiny_model: Path, tmp_path: Path, tgi: TGI
) -> None:
    in_a_namespace = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c"]
    if subprocess.run([*in_a_namespace, "mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False).returncode:
        pytest.skip("needs a mount namespace, for a small disk of its own")
    bench = make(tmp_path, tiny_model)
    (tmp_path / "runs").mkdir()
    command = " ".join(bench.command("generate", "dataset.yaml", "--endpoint", tgi.url))
    small = f"mount -t tmpfs -o size=16k tmpfs runs; {command}; code=$?; mount -o remount,size=9m runs; {command}; exit $code$?"
    done = subprocess.run(
        [*in_a_namespace, small], cwd=tmp_path, env=bench.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 10, done.stderr[-2000:]  # 1, and then 0
    assert "no space left on the device while doing `generate`" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.startswith("generate   12 notes")
