"""The benchmark of evaluation runs, small, and both sides give the same scores."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.beir import write_beir

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "evaluate.py"


@pytest.mark.long
def test_the_benchmark_measures_all_contestants_and_their_scores_agree(tiny_model: Path, tmp_path: Path) -> None:
    options = [f"--model={tiny_model}", "--batch-sizes", "4", f"--work={tmp_path / 'work'}", "--tasks"]
    command = [sys.executable, str(BENCHMARK), *options, str(write_beir(tmp_path / "mine"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    log = tmp_path / "work" / "log.txt"
    assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
    rows = re.findall(r"^\| (m.+?) \| ([\d.]+) \|.*\| ([\d.e+-]+) \|$", done.stdout, re.MULTILINE)
    assert len(rows) == 7
    assert all(float(apart) <= 1e-4 for name, _, apart in rows if name.startswith("medembed"))
