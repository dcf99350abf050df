"""A tiny published dataset, a tiny task and a recipe for them: training in seconds, in real processes of `accelerate launch`."""

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from medembed.rows import triplets_schema
from medembed.run import Record, Run
from tests.fixtures.models import WORDS

ROWS, NEGATIVES = 68, 2
SECRET = "zebrafinch"  # stands in every text of the training rows, and nowhere else


def triplets(rows: int = ROWS) -> pa.Table:
    """Rows whose positives answer two queries each, so that a batch could hold a text twice."""
    draw = random.Random(0)
    passages = [f"{SECRET} {n} " + " ".join(draw.choices(WORDS, k=8)) for n in range(rows)]
    table = [
        {
            "query": f"{SECRET} q{n} " + " ".join(draw.sample(passages[n // 2].split()[2:], 3)),
            "positive": passages[n // 2],
            "negative_1": passages[(n // 2 + 7) % rows],
            "negative_2": passages[(n // 2 + 13) % rows],
            "passage_id": f"p{n // 2}",
        }
        for n in range(rows)
    ]
    return pa.Table.from_pylist(table, schema=triplets_schema(NEGATIVES))


def publish(folder: Path, table: pa.Table) -> Path:
    (folder / "triplets").mkdir(parents=True)
    pq.write_table(table, folder / "triplets" / "train-00000-of-00001.parquet")
    (folder / "provenance.json").write_text(json.dumps({"name": "made-by-hand"}), encoding="utf-8")
    return folder


@dataclass
class Bench:
    """A recipe on disk, and the ways to train it."""

    recipe: Path
    folder: Path

    def command(self, *values: str, run: str, processes: int = 1) -> list[str]:
        several = ["--multi_gpu"] if processes > 1 else []
        launch = [sys.executable, "-m", "accelerate.commands.launch", *several, f"--num_processes={processes}"]
        quiet = ["--quiet", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
        rest = [str(self.recipe), *values, "--run-dir", str(self.folder / run)]
        return [*launch, *quiet, "-m", "medembed.train", *rest]

    def train(self, *values: str, run: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
        command = self.command(*values, run=run, processes=processes)
        return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)

    def run(self, name: str) -> Run:
        from medembed.recipe_file import load

        return Run(load(self.recipe), self.folder / name)

    def record(self, name: str) -> Record:
        record = self.run(name).record("train")
        assert record is not None
        return record

    def losses(self, name: str) -> list[float]:
        return json.loads((self.folder / name / "train" / "losses.json").read_text(encoding="utf-8"))

    def weights(self, name: str) -> Path:
        return self.folder / name / "train" / "model" / "model.safetensors"


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="package")
def bench(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("train")
    publish(folder / "dataset", triplets())
    task = folder / "task"
    (task / "qrels").mkdir(parents=True)
    passages = [{"_id": f"d{n}", "title": "", "text": word} for n, word in enumerate(WORDS[:12])]
    (task / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in passages), encoding="utf-8")
    queries = [{"_id": f"q{n}", "text": f"{WORDS[n]} patient"} for n in range(6)]
    (task / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries), encoding="utf-8")
    judgments = "".join(f"q{n}\td{n}\t1\n" for n in range(6))
    (task / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judgments}", encoding="utf-8")
    recipe = {
        "kind": "model",
        "name": "tiny",
        "base": {"model": str(tiny_model), "max_length": 48, "prompts": {"query": "what: ", "passage": "the: "}},
        "data": {"dataset": str(folder / "dataset")},
        "train": {
            "batch_size": 8,
            "mini_batch_size": 4,
            "max_length": 24,
            "epochs": 2,
            "learning_rate": 1e-3,
            "save_steps": 3,
        },
        "evaluate": {"tasks": [str(task)]},
        "publish": {"folder": str(folder / "published")},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return Bench(folder / "tiny.yaml", folder)
