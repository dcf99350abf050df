"""Several processes encode for one evaluation, and the result is that of one."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from medembed import report
from tests.evaluate.runs import model_recipe, trained
from tests.fixtures.beir import PASSAGES, write_beir
from tests.fixtures.models import WORDS, make_tiny_model


@pytest.mark.long
def test_two_processes_give_the_scores_of_one(tiny_model: Path, tmp_path: Path) -> None:
    more = [(f"w{n}", "", " ".join([*WORDS[n % 50 : n % 50 + 4], WORDS[n % 7], str(n)])) for n in range(600)]
    task = str(write_beir(tmp_path / "mine", passages=[*PASSAGES, *more]))
    tuned = make_tiny_model(tmp_path / "tuned", seed=3)
    recipe = model_recipe(tiny_model, [task])
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_none=True)))
    runs = [trained(recipe, tmp_path / f"run-{processes}", tuned) for processes in (1, 2)]
    for processes, run in zip((1, 2), runs, strict=True):
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", *(["--multi_gpu"] * (processes - 1))]
        options = [f"--num_processes={processes}", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
        command = [*launch, *options, "-m", "medembed.evaluate", str(path), "--run-dir", str(run.folder)]
        env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [
            report.line(record := run.finished("evaluate")),
            *report.results(record).splitlines(),
        ]
    tables = [pq.read_table(run.path("evaluate", "scores.parquet")) for run in runs]
    assert tables[0].equals(tables[1])
    blocks = [{p.relative_to(run.folder): p.read_bytes() for p in run.folder.rglob("*.rows")} for run in runs]
    assert len(blocks[0]) > 4 and blocks[0] == blocks[1]
