"""Asking in shards: whatever executor runs them, the output is that of one process, and nothing is asked twice."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from medembed import stages
from medembed.errors import InputError, RunError
from medembed.recipe import DatasetRecipe
from medembed.rows import content_id
from medembed.run import Run
from tests.fixtures.tgi import TGI

pytest.importorskip("datatrove", reason="needs the extra `executors`")
from medembed.generate import shards

TABLES = ("corpus", "pairs", "rejects")
SCRIPT = """
import sys
from pathlib import Path
from medembed.generate.shards import ask_in_shards
from medembed.recipe import DatasetRecipe
from medembed.run import Run
recipe = DatasetRecipe.model_validate_json(Path(sys.argv[1]).read_text())
if __name__ == "__main__":
    ask_in_shards(recipe, Run(recipe, Path(sys.argv[2])), "local", 2)
"""


def merged(recipe: DatasetRecipe, run: Run) -> list[bytes]:
    shards.gather(recipe, run)
    stages.perform("generate", recipe, run)
    shards.deliver(recipe, run)
    return tables(run.path("generate"))


def tables(folder: Path) -> list[bytes]:
    return [(folder / f"{name}.parquet").read_bytes() for name in TABLES]


def asked_once(tgi: TGI, notes: int) -> bool:
    asked = Counter(json.dumps(body["messages"]) for body in tgi.asked)
    return len(asked) == notes and set(asked.values()) == {1}


def test_every_note_has_one_shard_and_shards_are_of_like_size() -> None:
    sizes = Counter(shards.shard_of(content_id(str(n)), 4) for n in range(4000))
    assert sorted(sizes) == [0, 1, 2, 3] and max(sizes.values()) < 1.15 * min(sizes.values())


@pytest.mark.slow
def test_two_local_tasks_make_what_one_process_makes(make_recipe, generate, tmp_path):
    with TGI() as tgi:
        _, whole = generate(make_recipe(12, endpoints=[tgi.url]), "whole")
    with TGI() as tgi:
        recipe = make_recipe(12, endpoints=[tgi.url])
        run = Run(recipe, tmp_path / "shards")
        assert shards.ask_in_shards(recipe, run, "local", 2)
        assert merged(recipe, run) == tables(whole.path("generate"))
        assert asked_once(tgi, 12)
    journals = [path.read_text().splitlines() for path in sorted(run.folder.glob("journal-*.jsonl"))]
    assert [bool(lines) for lines in journals] == [True, True] and sum(map(len, journals)) == 12
    told = "".join(path.read_text() for path in run.folder.glob("tasks/**/*") if path.suffix in (".log", ".json"))
    assert "ankle swelling" not in told
    for log in run.folder.glob("tasks/*/logs/*.log"):
        assert "answers at" in log.read_text() and re.search(r"\d notes; .* 0/2 in flight", log.read_text())


@pytest.mark.slow
def test_killed_tasks_go_on_and_journals_are_kept_in_the_store(make_recipe, generate, tmp_path):
    store = f"file://{tmp_path}/store"
    with TGI() as tgi:
        _, whole = generate(make_recipe(16, endpoints=[tgi.url]), "whole")
    with TGI(seconds=0.3, slots=2) as tgi:
        recipe = make_recipe(16, endpoints=[tgi.url], concurrency=1, store=store)
        (tmp_path / "recipe.json").write_text(recipe.model_dump_json(exclude={"curate"}))
        (tmp_path / "script.py").write_text(SCRIPT)
        command = [sys.executable, "script.py", "recipe.json", "run"]
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True) as process:
            deadline = time.monotonic() + 60
            while len(tgi.asked) < 5 and time.monotonic() < deadline:
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGKILL)
        before = len(tgi.asked)
        assert 5 <= before < 16
        run = Run(recipe, tmp_path / "run")
        assert shards.ask_in_shards(recipe, run, "local", 2)
        assert merged(recipe, Run(recipe, tmp_path / "another machine")) == tables(whole.path("generate"))
    assert tables(tmp_path / "store" / "generate") == tables(whole.path("generate"))
    assert len(list((tmp_path / "store").glob("journal-*.jsonl"))) == 2


@pytest.mark.slow
def test_ray_makes_what_one_process_makes(make_recipe, generate, tmp_path):
    ray = pytest.importorskip("ray", reason="needs the extra `ray`")
    with TGI() as tgi:
        _, whole = generate(make_recipe(8, endpoints=[tgi.url]), "whole")
    with TGI() as tgi:
        recipe = make_recipe(8, endpoints=[tgi.url], ray={"cpus": 1, "memory": 1})
        run = Run(recipe, tmp_path / "shards")
        ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
        try:
            assert shards.ask_in_shards(recipe, run, "ray", 2)
        finally:
            ray.shutdown()
        assert merged(recipe, run) == tables(whole.path("generate"))
        assert asked_once(tgi, 8)


@pytest.mark.slow
def test_the_jobs_for_slurm_ask_by_rank_and_merge_after(make_recipe, generate, tmp_path, monkeypatch):
    """sbatch here keeps what it is given; each task is then started as its script says, but without `srun`."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    sbatch = f"""#!{sys.executable}
import pathlib, shutil, sys
n = len(list(pathlib.Path({str(tmp_path)!r}).glob("*.sbatch")))
job = pathlib.Path({str(tmp_path)!r}, f"{{n}}.sbatch")
shutil.copy(sys.argv[-1], job)
job.with_suffix(".args").write_text(" ".join(sys.argv[1:-1]))
print("Submitted batch job", 100 + n)
"""
    for name, text in {"sbatch": sbatch, "scontrol": "#!/bin/sh\necho node1\n"}.items():
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    with TGI() as tgi:
        _, whole = generate(make_recipe(8, endpoints=[tgi.url]), "whole")
    with TGI() as tgi:
        slurm = {"partition": "cpu", "time": "02:00:00", "most": 5, "options": {"account": "clinic"}}
        recipe = make_recipe(8, endpoints=[tgi.url], slurm=slurm)
        run = Run(recipe, tmp_path / "run")
        assert not shards.ask_in_shards(recipe, run, "slurm", 2)
        asking, _, merging, *_ = (path.read_text() for path in sorted(tmp_path.glob("*.sbatch")))
        for line in (
            "array=0-1%5",
            "partition=cpu",
            "time=02:00:00",
            "account=clinic",
            "cpus-per-task=2",
            "mem-per-cpu=4G",
        ):
            assert f"#SBATCH --{line}\n" in asking
        assert "--dependency=afterok:100" in (tmp_path / "2.args").read_text()
        for script, ranks in ((asking, 2), (merging, 1)):
            pickled = script.split("launch_pickled_pipeline ")[1].split()[0]
            for rank in range(ranks):
                there = {"SLURM_ARRAY_TASK_ID": str(rank), "SLURM_NODELIST": "node1"}
                command = ["launch_pickled_pipeline", pickled]
                done = subprocess.run(
                    command, check=False, env=os.environ | there, capture_output=True, text=True, timeout=120
                )
                assert done.returncode == 0, done.stderr
        assert asked_once(tgi, 8)
    assert tables(run.path("generate")) == tables(whole.path("generate"))


def test_what_the_executor_lacks_is_told_before_anything_starts(make_recipe, tmp_path):
    recipe = make_recipe(2, endpoints=["http://127.0.0.1:9"])
    with pytest.raises(InputError, match="does not say what to ask Slurm for"):
        shards.ask_in_shards(recipe, Run(recipe, tmp_path / "run"), "slurm", 2)


def test_no_sbatch_and_one_that_refuses_are_told(make_recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    recipe = make_recipe(2, endpoints=["http://127.0.0.1:9"], slurm={"partition": "cpu"})
    with pytest.raises(InputError, match="there is no sbatch here"):
        shards.ask_in_shards(recipe, Run(recipe, tmp_path / "run"), "slurm", 2)
    (tmp_path / "bin").mkdir()
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text("#!/bin/sh\nexit 3\n")
    sbatch.chmod(0o755)
    with pytest.raises(RunError, match="did not take the jobs: sbatch ended with 3"):
        shards.ask_in_shards(recipe, Run(recipe, tmp_path / "run"), "slurm", 2)


@pytest.mark.parametrize("store", ["/proc/none", "nowhere://bucket/folder"])
def test_a_store_that_cannot_be_written_is_told_before_anything_starts(make_recipe, tmp_path, store):
    recipe = make_recipe(2, endpoints=["http://127.0.0.1:9"], store=store)
    with pytest.raises(InputError, match=f"{store}: cannot be read and written"):
        shards.ask_in_shards(recipe, Run(recipe, tmp_path / "run"), "local", 2)


def test_answers_that_cannot_be_brought_to_the_store_are_kept_where_they_are(make_recipe, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    with TGI() as tgi:
        recipe = make_recipe(3, endpoints=[tgi.url], store=str(store))
        tgi.faults = lambda _: (shutil.rmtree(store, ignore_errors=True), store.write_text("no folder"), "")[-1]
        with pytest.raises(RunError, match="cannot be read and written") as told:
            shards.AskShard(recipe, Run(recipe, tmp_path / "run"), 1).run()
    kept = Path(re.search(r"kept in (\S+): copy it there", str(told.value))[1])
    assert len(kept.read_text().splitlines()) == 3
    shutil.rmtree(kept.parent)


def test_a_full_disk_of_a_task_is_told_and_its_shard_goes_on(make_recipe, tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with TGI() as tgi:
        recipe = make_recipe(3, endpoints=[tgi.url])
        run = Run(recipe, tmp_path / "run")
        run.folder.mkdir()
        with monkeypatch.context() as patched, pytest.raises(RunError, match=r"no space left .* while doing task 0"):
            patched.setattr("os.fsync", full)
            shards.AskShard(recipe, run, 1).run()
        shards.AskShard(recipe, run, 1).run()
    assert len((run.folder / "journal-00000-of-00001.jsonl").read_text().splitlines()) == 3


def test_a_shard_is_asked_about_by_one_task_at_a_time(make_recipe, tmp_path):
    recipe = make_recipe(2, endpoints=["http://127.0.0.1:9"])
    run = Run(recipe, tmp_path / "run")
    run.folder.mkdir()
    with (
        shards._alone(run.folder / "journal-00000-of-00001.jsonl"),
        pytest.raises(RunError, match="another task asks about this shard"),
    ):
        shards.AskShard(recipe, run, 1).run()


def test_a_bug_in_a_task_is_told_without_its_message(make_recipe, tmp_path):
    class Bug(shards._Step):
        name = "bug"

        def work(self, recipe: DatasetRecipe, run: Run, rank: int, world_size: int) -> None:
            secret = "the patient's own words"
            raise ValueError(secret)

    recipe = make_recipe(1, endpoints=["http://127.0.0.1:9"])
    with pytest.raises(RunError, match="ValueError: a bug") as told:
        Bug(recipe, Run(recipe, tmp_path / "run")).run()
    assert "own words" not in str(told.value) and told.value.__suppress_context__
