"""What `medembed train` does: start `accelerate launch -m medembed.train RECIPE` as a child, and bring back what went wrong in it.

The launcher stands between us and the training processes and passes on neither exit codes nor our end. So faults come back through
a file, and the processes read a pipe that closes when we are gone, be it by kill -9.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medembed.errors import Fault, InputError, MedEmbedError, RunError

_FAULTS = "MEDEMBED_LAUNCHER_FAULTS"  # in a child of ours: the file for its faults


def launch(recipe: Path, overrides: tuple[str, ...], run_folder: Path, config_file: Path | None = None) -> None:
    """Train `recipe` in `run_folder`, in as many processes as `config_file` says, or else one for each GPU.

    Raises:
        MedEmbedError: what the training said, or that it ended without a word.
    """
    with tempfile.TemporaryDirectory() as folder:
        faults = Path(folder, "faults.json")
        code = _run(_command(recipe, overrides, run_folder, config_file), os.environ | {_FAULTS: str(faults)})
        if faults.exists():
            raise _error(json.loads(faults.read_text(encoding="utf-8")))
    if code:
        mend = "The cause stands above. The same command goes on from the last checkpoint."
        raise RunError.of(f"the training processes ended with code {code}", "accelerate launch", mend)


def report_to_launcher(error: MedEmbedError) -> bool:
    """Leave the faults to the process that called `launch`; False when there is none."""
    if (path := os.environ.get(_FAULTS)) is None:
        return False
    faults = {"exit_code": error.exit_code, "faults": [asdict(fault) for fault in error.faults]}
    Path(path).write_text(json.dumps(faults), encoding="utf-8")
    return True


def stop_with_launcher() -> None:
    """End this process when the one that called `launch` is gone."""
    if _FAULTS in os.environ:
        threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def _error(told: dict[str, Any]) -> MedEmbedError:
    kind = InputError if told["exit_code"] == InputError.exit_code else RunError
    return kind(*(Fault(**fault) for fault in told["faults"]))


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


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Run `command` in a process group of its own; Ctrl-C and SIGTERM end the group, and then us."""
    before = signal.signal(signal.SIGTERM, _leave)
    child = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True)
    try:
        return child.wait()
    except BaseException:
        os.killpg(child.pid, signal.SIGTERM)
        child.wait()
        raise
    finally:
        if child.stdin:
            child.stdin.close()
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, _: Any) -> None:
    sys.exit(128 + number)
