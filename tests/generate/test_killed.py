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
