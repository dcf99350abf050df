"""What `medembed train` does: start `accelerate launch -m medembed.train RECIPE` as a child, and bring back what went wrong in it.

The launcher stands between us and the training processes and passes on neither exit codes nor our end. So what they have to tell
comes back through files, and they read a pipe: when its end is reached, be it by kill -9 of this process, they stop in good order.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock

from medembed.errors import Fault, InputError, MedEmbedError, RunError, Stopped

_TOLD = "MEDEMBED_TOLD_TO_LAUNCHER"  # in a child of ours: the folder for what its processes tell


def launch(recipe: Path, overrides: tuple[str, ...], run_folder: Path, config_file: Path | None = None) -> None:
    """Train `recipe` in `run_folder`, in as many processes as `config_file` says, or else one for each GPU.

    Raises:
        MedEmbedError: what the training said, or that it ended without a word.
        Stopped: this process or one of the training was sent SIGTERM.
    """
    with tempfile.TemporaryDirectory() as folder:
        code = _run(_command(recipe, overrides, run_folder, config_file), os.environ | {_TOLD: folder}, run_folder)
        told = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).glob("*.json"))]
    if told:
        raise _error(told)
    if code:
        mend = "The cause stands above. The same command goes on from the last checkpoint."
        raise RunError.of(f"the training processes ended with code {code}", "accelerate launch", mend)


def tell_launcher(error: MedEmbedError | Stopped) -> bool:
    """Leave what ends this process to the one that called `launch`; False when there is none."""
    if (folder := os.environ.get(_TOLD)) is None:
        return False
    faults = [asdict(fault) for fault in error.faults] if isinstance(error, MedEmbedError) else [{"what": str(error)}]
    told = {"exit_code": error.exit_code, "faults": faults}
    Path(folder, f"{os.getpid()}.json").write_text(json.dumps(told), encoding="utf-8")
    return True


def leash() -> int | None:
    """The file that ends when the process that called `launch` does; None when there is none."""
    return 0 if _TOLD in os.environ else None


def _error(told: list[dict[str, Any]]) -> MedEmbedError | Stopped:
    """What several processes told, as one."""
    faults = dict.fromkeys(Fault(**fault) for each in told for fault in each["faults"])
    codes = {each["exit_code"] for each in told}
    if codes == {Stopped.exit_code}:
        return Stopped("; ".join(fault.what for fault in faults))
    return (InputError if codes == {InputError.exit_code} else RunError)(*faults)


def _command(recipe: Path, overrides: tuple[str, ...], run_folder: Path, config_file: Path | None) -> list[str]:
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--quiet"]
    processes = ["--config_file", str(config_file)] if config_file else _one_for_each_gpu()
    training = ["-m", "medembed.train", str(recipe), *overrides, "--run-dir", str(run_folder)]
    return [*launcher, *processes, *training]


def _one_for_each_gpu() -> list[str]:
    import torch

    gpus = torch.cuda.device_count()
    several = ["--multi_gpu"] if gpus > 1 else []
    return [
        *several,
        f"--num_processes={max(gpus, 1)}",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
        # Accelerate's own default is one thread, also for a single process on the CPU.
        f"--num_cpu_threads_per_process={os.environ.get('OMP_NUM_THREADS') or max(1, (os.cpu_count() or 1) // max(gpus, 1))}",
    ]


def _run(command: list[str], environment: dict[str, str], run_folder: Path) -> int:
    """Run `command` in a process group of its own until all of it has ended. SIGTERM and Ctrl-C let it stop in good order."""
    child = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True)
    assert child.stdin
    pipe = child.stdin
    before = signal.signal(signal.SIGTERM, lambda *_: pipe.close())
    try:
        code = child.wait()
        if (
            code < 0 and run_folder.exists()
        ):  # killed alone: the process that it started may still write its last checkpoint
            with filelock.FileLock(run_folder / ".lock"):
                pass
        return code
    except KeyboardInterrupt:
        pipe.close()
        try:
            child.wait()
        except KeyboardInterrupt:  # a second one waits for nothing
            os.killpg(child.pid, signal.SIGKILL)
        raise
    finally:
        pipe.close()
        signal.signal(signal.SIGTERM, before)
