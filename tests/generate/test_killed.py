"""kill -9 and Ctrl-C in the middle of asking: the same command goes on, and ends as if nothing had happened."""

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.fixtures.tgi import TGI

SCRIPT = """
import sys
from pathlib import Path
from medembed import stages
from medembed.recipe import DatasetRecipe
from medembed.run import Run
recipe = DatasetRecipe.model_validate_json(Path(sys.argv[1]).read_text())
stages.perform("generate", recipe, Run(recipe, Path(sys.argv[2])))
"""


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_stopped_in_the_middle_the_same_command_asks_only_what_is_missing(make_recipe, generate, tmp_path, blow):
    notes = 24
    with TGI() as tgi:
        _, undisturbed = generate(make_recipe(notes, endpoints=[tgi.url]), "undisturbed")
    with TGI(seconds=0.05) as tgi:
        recipe = make_recipe(notes, endpoints=[tgi.url])
        (tmp_path / "recipe.json").write_text(recipe.model_dump_json(exclude={"curate"}))
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / "recipe.json"), str(tmp_path / "run")]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            wait_until(lambda: len(tgi.asked) >= 10)
            process.send_signal(blow)
            told = process.communicate(timeout=20)[1].decode()
        assert process.returncode != 0 and len(tgi.asked) < notes
        assert blow == signal.SIGKILL or "KeyboardInterrupt" in told
        assert "never retrieved" not in told and "was destroyed" not in told

        answered = len(list((tmp_path / "run" / "journal.jsonl").open()))
        assert 0 < answered < notes
        asked = len(tgi.asked)
        _, run = generate(recipe, "run")
        assert len(tgi.asked) - asked == notes - answered
    for name in ("corpus", "pairs", "rejects"):
        file = f"{name}.parquet"
        assert run.path("generate", file).read_bytes() == undisturbed.path("generate", file).read_bytes()
    keys = [json.loads(line)["key"] for line in (run.folder / "journal.jsonl").open()]
    assert len(keys) == len(set(keys)) == notes


KILLED_20_TIMES = """
import os, random, signal, sys, time
from pathlib import Path
from medembed import stages
from medembed.recipe import DatasetRecipe
from medembed.run import Run
import asyncio, medembed.generate, medembed.tables, rich.live  # once, for all children

recipe = DatasetRecipe.model_validate_json(Path(sys.argv[1]).read_text())
run, draw = Run(recipe, Path(sys.argv[2])), random.Random(7)
journal, folder = run.folder / "journal.jsonl", run.path("generate")


def child():
    if (pid := os.fork()) == 0:
        stages.perform("generate", recipe, run)
        os._exit(0)
    return pid


def size():
    return journal.stat().st_size if journal.exists() else 0


def writing():
    # this child, not one before it, has begun the second pass
    return any(path.stat().st_mtime_ns > begun for path in folder.glob(".*.parquet.tmp"))


for n in range(20):
    begun = time.time_ns()
    (folder / "record.json").unlink(missing_ok=True)  # if it was quicker than the blow: let it write once more
    before, pid = size(), child()
    if n < 14:
        more = draw.randrange(1, 6000)
        struck = lambda: size() >= before + more
    else:  # in the second pass
        struck = writing
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if struck():
            time.sleep(draw.random() / 100)
            os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
            phase = "writing" if writing() else "asking"
            print(phase if os.WIFSIGNALED(status) else "ended", flush=True)
            break
        time.sleep(0.0005)
    else:
        print("ended", flush=True)
"""


@pytest.mark.slow
def test_killed_20_times_in_a_row_the_output_is_that_of_an_undisturbed_run(make_recipe, generate, tmp_path):
    notes = 120
    with TGI() as tgi:
        _, undisturbed = generate(make_recipe(notes, endpoints=[tgi.url]), "undisturbed")
    with TGI(seconds=0.02) as tgi:
        recipe = make_recipe(notes, endpoints=[tgi.url])
        (tmp_path / "recipe.json").write_text(recipe.model_dump_json(exclude={"curate"}))
        command = [sys.executable, "-c", KILLED_20_TIMES, str(tmp_path / "recipe.json"), str(tmp_path / "run")]
        blows = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, timeout=120).stdout.split()
        assert len(blows) == 20 and blows.count("asking") >= 10 and blows.count("writing") >= 2, blows
        (tmp_path / "run" / "generate" / "record.json").unlink(missing_ok=True)
        record, run = generate(recipe, "run")
        assert notes <= len(tgi.asked) <= notes + 20 * 4  # what was in flight is lost, and no more
    assert not list(run.path("generate").glob(".*"))
    for name in ("corpus", "pairs", "rejects"):
        file = f"{name}.parquet"
        assert run.path("generate", file).read_bytes() == undisturbed.path("generate", file).read_bytes()
    records = [json.loads(line) for line in (run.folder / "journal.jsonl").open()]
    assert len({record["key"] for record in records}) == notes
    assert record.counts == undisturbed.finished("generate").counts


def test_a_torn_last_record_is_dropped_and_asked_again(make_recipe, generate):
    with TGI() as tgi:
        recipe = make_recipe(4, endpoints=[tgi.url])
        _, run = generate(recipe)
        journal = run.folder / "journal.jsonl"
        whole = journal.read_bytes()
        pairs = run.path("generate", "pairs.parquet").read_bytes()
        journal.write_bytes(whole[:-30])
        run.path("generate", "pairs.parquet").unlink()  # the stage is to be done again
        generate(recipe)
        assert len(tgi.asked) == 5
    records = [json.loads(line) for line in journal.open()]
    assert len({record["key"] for record in records}) == len(records) == 4
    assert run.path("generate", "pairs.parquet").read_bytes() == pairs


def wait_until(holds: object, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)
