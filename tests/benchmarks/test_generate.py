"""The benchmark of generate measures what it says, and runs."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from benchmarks.generate import ideal_seconds, server

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "generate.py"


def benchmark(folder: Path, *arguments: str) -> tuple[str, list[dict]]:
    """The table that it prints, and the figures that it writes."""
    command = [sys.executable, SCRIPT, "--folder", folder, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    written = folder / ("memory.json" if "--memory" in arguments else "results.json")
    return done.stdout, json.loads(written.read_text())["results"]


@pytest.mark.parametrize(
    ("drawn", "slots", "ideal"),
    [([1, 1, 1, 1], 2, 2), ([3, 1, 1, 1], 2, 3), ([1, 1, 1, 3], 2, 4), ([0.5], 8, 0.5)],
)
def test_the_ideal_is_what_list_scheduling_takes(drawn: list[float], slots: int, ideal: float) -> None:
    assert ideal_seconds(drawn, slots) == ideal


@pytest.mark.slow
def test_ours_loses_nothing_and_cannot_beat_the_ideal(tmp_path: Path) -> None:
    table, [natural, failures] = benchmark(
        tmp_path, "--requests", "60", "--slots", "24", "--peers", "--cases", "natural", "failures"
    )
    for result in natural, failures:
        assert result["contestant"] == "medembed generate" and result["contestant"] in table
        assert result["lost"] == 0
        assert 0.3 < result["share"] <= 1
        assert result["cpu"] > 0 and result["memory"] > 20 and result["start_up"] > 0
    assert natural["refused"] == 0, "asked for more at once than the server says it takes"


@pytest.mark.slow
def test_memory_is_measured_while_notes_stream(tmp_path: Path) -> None:
    _, [result] = benchmark(tmp_path, "--memory", "1100", "--slots", "24")
    assert result["answered"] == 1100
    assert 20 < result["MiB at 1,000"] <= result["MiB at most after"]


def test_the_server_takes_as_many_as_it_has_slots_and_queue_and_no_more() -> None:
    schema = {"type": "object", "properties": {"pairs": {"type": "array", "items": {"type": "string"}}}}
    form = {"type": "json_object", "value": schema}
    body = {"model": "tgi", "messages": [{"role": "user", "content": "Pulse regular."}], "response_format": form}
    with (
        server(slots=2, queue=1, seconds=[2, 2]) as url,  # time enough for all six to come
        httpx2.Client(base_url=url, timeout=30) as client,
        ThreadPoolExecutor(6) as threads,
    ):
        answers = threads.map(lambda _: client.post("/v1/chat/completions", json=body).status_code, range(6))
        assert sorted(answers) == [200, 200, 200, 429, 429, 429]
        log = client.get("/log").json()
    assert log["refused"] == 3
    begun = sorted(each["begun"] for each in log["generations"])
    assert begun[1] - begun[0] < 1.9 < begun[2] - begun[0], "the third waits for a slot"
