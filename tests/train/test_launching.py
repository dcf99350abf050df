"""The ways in which people start training, and what becomes of it when one of the processes involved is told to stop, or killed."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from medembed import resources
from medembed.train.checkpoints import COMPLETE
from tests.fixtures.models import make_tiny_model
from tests.train.conftest import Bench, environment
from tests.train.forked import Done, Forge

LONG = ("train.epochs=12", "train.save_steps=4")  # time to be interrupted in
STEPS = 108


@pytest.fixture(scope="module")
def bench(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One with dropout, so that every generator of random numbers has a say."""
    folder = tmp_path_factory.mktemp("launching")
    recipe = yaml.safe_load(bench.recipe.read_text(encoding="utf-8"))
    recipe["base"]["model"] = str(make_tiny_model(folder / "dropout", dropout=0.1))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return Bench(folder / "recipe.yaml", folder)


@pytest.fixture(scope="module")
def undisturbed(bench: Bench) -> Iterator[Callable[[int], Done]]:
    """Gives the result of that many processes that nobody launched and nothing disturbed."""
    with Forge(bench.recipe, bench.folder, environment()) as forge:
        yield lambda processes: forge.train(*LONG, run=f"undisturbed-{processes}", processes=processes)


def start(bench: Bench, run: str, *, processes: int, by_medembed: bool = False) -> subprocess.Popen[str]:
    """Start training, and return when it has gone on from where it was by at least one checkpoint."""
    checkpoints = bench.folder / run / "train" / "checkpoints"
    before = _last(checkpoints)
    command = bench.command(*LONG, run=run, processes=processes)
    if by_medembed:
        config = yaml.safe_load((resources.folder("recipes") / "accelerate" / "ddp.yaml").read_text())
        (bench.folder / "launch.yaml").write_text(yaml.safe_dump(config | {"num_processes": processes}))
        several = ["--config-file", str(bench.folder / "launch.yaml")] if processes > 1 else []
        rest = [str(bench.recipe), *LONG, "--run-dir", str(bench.folder / run), *several]
        command = [sys.executable, "-m", "medembed", "train", *rest]
    started = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while _last(checkpoints) <= before:
        assert started.poll() is None, started.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return started


def _last(checkpoints: Path) -> int:
    return max(
        [int(mark.parent.name.partition("-")[2]) for mark in checkpoints.glob(f"checkpoint-*/{COMPLETE}")], default=0
    )


def _training(started: subprocess.Popen[str]) -> list[psutil.Process]:
    """The training processes themselves, without what launched them."""
    family = psutil.Process(started.pid).children(recursive=True)
    return [each for each in family if not each.children() and "medembed.train" in each.cmdline()]


@pytest.mark.long
def test_one_process_whose_launcher_is_stopped_or_killed_stops_too_and_goes_on_to_the_same_weights(
    bench: Bench, undisturbed: Callable[[int], Done]
) -> None:
    started = start(bench, "one", processes=1)
    training = _training(started)
    started.terminate()  # the launcher of Accelerate passes nothing on
    assert len(training) == 1
    assert not psutil.wait_procs(training, timeout=60)[1]
    assert "stopped after step" in started.communicate()[1]
    reached = _last(bench.folder / "one" / "train" / "checkpoints")

    started = start(bench, "one", processes=1, by_medembed=True)
    family = psutil.Process(started.pid).children(recursive=True)
    started.kill()
    assert f"goes on from checkpoint-{reached}\n" in started.communicate()[1]
    assert not psutil.wait_procs(family, timeout=60)[1]
    assert not (bench.folder / "one" / "train" / "record.json").exists()

    done = bench.train(*LONG, run="one")
    assert done.returncode == 0, done.stderr
    _assert_same(bench, "one", undisturbed(1))


@pytest.mark.long
def test_two_processes_stop_when_one_of_them_or_the_command_is_told_to_and_go_on_to_the_same_weights(
    bench: Bench, undisturbed: Callable[[int], Done]
) -> None:
    started = start(bench, "two", processes=2)
    training = _training(started)
    assert len(training) == 2
    training[1].terminate()
    assert "stopped after step" in started.communicate(timeout=120)[1]
    assert not any(each.is_running() for each in training)

    started = start(bench, "two", processes=2, by_medembed=True)
    started.terminate()
    told = started.communicate(timeout=120)[1]
    assert started.returncode == 128 + signal.SIGTERM
    assert f" of {STEPS}, whose checkpoint is saved; the same command goes on from there" in told
    assert "error" not in told.rpartition("stopped after step")[2]

    done = bench.train(*LONG, run="two", processes=2)
    assert done.returncode == 0, done.stderr
    _assert_same(bench, "two", undisturbed(2))


def _assert_same(bench: Bench, run: str, undisturbed: Done) -> None:
    from safetensors.numpy import load, load_file

    assert undisturbed.losses == bench.losses(run)
    ours, theirs = load_file(bench.weights(run)), load(undisturbed.weights)
    assert len(ours) > 10
    assert [name for name, tensor in ours.items() if tensor.tobytes() != theirs[f"0.model.{name}"].tobytes()] == []
    assert not (bench.folder / run / "train" / "checkpoints").exists()


@pytest.mark.long
def test_two_machines_train_as_two_processes_of_one(bench: Bench, undisturbed: Callable[[int], Done]) -> None:
    """Two launches on 127.0.0.1, each with a rank of its own, as the head of multi_node.yaml has it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = resources.folder("recipes") / "accelerate" / "multi_node.yaml"
    run = ["-m", "medembed.train", str(bench.recipe), *LONG, "--run-dir", str(bench.folder / "machines")]
    where = ["--main_process_ip", "127.0.0.1", "--main_process_port", str(port), "--num_processes", "2"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), *where]
    machines = [
        subprocess.Popen([*launch, "--machine_rank", str(rank), *run], env=environment(), stderr=subprocess.PIPE)
        for rank in (0, 1)
    ]
    told = [machine.communicate(timeout=280)[1].decode() for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], told
    assert bench.record("machines").measured["processes"] == 2
    _assert_same(bench, "machines", undisturbed(2))
