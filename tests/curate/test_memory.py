"""Rows stream: what the filters hold is ids and hashes, which is little beside the rows."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.beir import write_beir

PROGRAM = """
import sys
from pathlib import Path
from medembed import stages, tables
from medembed.recipe import DatasetRecipe
from medembed.run import Run

def peak():  # getrusage would tell the peak of the process that started this one, where that is higher
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

recipe = DatasetRecipe.model_validate_json(sys.argv[1])
run = Run(recipe, Path(sys.argv[2]))
stages.perform("curate", recipe, run)
streamed = peak()
held = [list(tables.rows(path)) for path in run.path("curate").glob("*.parquet")]
print(streamed, peak() - streamed)
"""
FILTERS: list[Any] = ["evidence", {"duplicates": {"of": ["pairs", "queries", "passages"]}}, "length", "copies"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from Linux's /proc")
def test_peak_memory_hardly_grows_with_the_rows(tmp_path: Path) -> None:
    task = write_beir(tmp_path / "test", passages=[("d", "", "x")], queries=[("q", "y")], judgments=[("q", "d", 1)])
    small, large = (curated(tmp_path / str(rows), rows, str(task)) for rows in (4_000, 20_000))
    held = large[1]  # MiB for all rows as Python's own, when they are read at once
    assert held > 30
    assert large[0] - small[0] < held / 4


def curated(folder: Path, rows: int, task: str) -> list[float]:
    """Peak memory of curating so many pairs, and what it takes to hold what is left, in MiB; in a process of its own."""
    folder.mkdir()
    with (folder / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for n in range(rows):
            words = " ".join(f"word{n * word % 9973}" for word in range(2, 52))
            file.write(json.dumps({"query": f"what is sign {n}", "positive": f"Sign {n}: {words}."}) + "\n")
    recipe = {
        "kind": "dataset",
        "name": "pairs",
        "pairs": [{"source": str(folder / "pairs.jsonl"), "license": "mit"}],
        "curate": [*FILTERS, {"decontaminate": {"tasks": [task]}}],
        "split": {"dev": 0.1},
        "publish": {"folder": "x"},
    }
    command = [sys.executable, "-c", PROGRAM, json.dumps(recipe), str(folder / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(said) for said in done.stdout.split()]
