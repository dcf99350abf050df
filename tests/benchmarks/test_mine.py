"""The benchmark of mining runs, small, and compares like with like."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("faiss")
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "mine.py"


@pytest.mark.long
def test_the_benchmark_measures_all_contestants_that_need_no_environment(tmp_path: Path) -> None:
    sizes = ["--passages=300", "--queries=40", "--vectors=4000", "--searches=50", f"--work={tmp_path}"]
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *sizes, "--peers"], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr + (tmp_path / "log.txt").read_text()
    for name in ("medembed mine", "mine_hard_negatives"):
        (row,) = re.findall(rf"^\| {name} \| ([\d.]+) \| ([\d.]+) \|", done.stdout, re.MULTILINE)
        assert float(row[0]) > float(row[1]) > 0
    recalls = re.findall(r"^\| exact \|.*\| ([\d.]+) \| [\d.]+ \| \d+ \|$", done.stdout, re.MULTILINE)
    assert [float(recall) for recall in recalls] == [1, 1]
