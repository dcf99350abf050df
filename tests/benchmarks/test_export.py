"""The benchmark of exports runs, small: every file beside torch, at each length, and what each ranks."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.beir import write_beir

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "export.py"


@pytest.mark.slow
def test_every_file_is_measured_beside_torch(tiny_model: Path, tmp_path: Path) -> None:
    sizes = ["--lengths", "8", "32", "--texts", "2", "--rounds", "1", "--threads", "1", "--without-fastembed"]
    places = [f"--model={tiny_model}", f"--work={tmp_path / 'work'}", "--tasks", str(write_beir(tmp_path / "mine"))]
    command = [sys.executable, str(BENCHMARK), *sizes, *places]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = re.findall(r"^\| (\d+(?:, one text)?) \| (.+?) \| ([\d.]+) \| ([\d.]+) × \|", done.stdout, re.MULTILINE)
    assert {length for length, *_ in rows} == {"8", "32", "8, one text"}
    assert len(rows) == 3 * 9
    ranked = dict(re.findall(r"^\| (.+?) \| [\d.]+ \| (-?[\d.]+) \|$", done.stdout, re.MULTILINE))
    assert len(ranked) == 9
    assert all(abs(float(ranked[name])) < 0.01 for name in ("onnx/model.onnx", "openvino/openvino_model.xml"))
