"""`fit` in processes forked from one that has everything imported: a training takes a second, and can be harmed at any of its steps.

`Forge` starts that one, and gives it orders, a line of JSON each. Where the system allows it, it has mounts of its own, for full disks.
"""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

IN_A_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


@dataclass
class Done:
    """How a training ended: the exit code of each process, what each of them told, and what all wrote to standard error."""

    folder: Path
    codes: list[int]
    told: list[str]
    stderr: str

    @property
    def weights(self) -> bytes:
        return (self.folder / "weights.safetensors").read_bytes()

    @property
    def losses(self) -> list[float]:
        return json.loads((self.folder / "losses.json").read_text())

    @property
    def checkpoints(self) -> list[str]:
        return sorted(p.name for p in (self.folder / "train" / "checkpoints").glob("checkpoint-*"))


@dataclass
class Forge:
    recipe: Path
    folder: Path
    environment: dict[str, str]
    can_mount: bool = field(init=False)

    def __enter__(self) -> "Forge":
        probe = subprocess.run(
            [*IN_A_NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
        )
        self.can_mount = probe.returncode == 0
        command = [*(IN_A_NAMESPACE * self.can_mount), sys.executable, "-m", "tests.train.forked"]
        self._process = subprocess.Popen(
            command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()

    def train(self, *values: str, run: str, processes: int = 1, **harm: Any) -> Done:
        """Train in the folder `run`, from the last checkpoint there; `harm` is done in the process `rank`, see `_harm`."""
        folder = self.folder / run
        folder.mkdir(exist_ok=True)
        order = {
            "recipe": str(self.recipe),
            "values": values,
            "folder": str(folder),
            "processes": processes,
            "harm": harm,
        }
        assert self._process.stdin and self._process.stdout
        print(json.dumps(order), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        told = [path.read_text() for path in sorted(folder.glob("told-*"))]
        return Done(folder, answer, told, (folder / "stderr").read_text())


# ---- in the process that forks ---------------------------------------------------------------------------------------


def serve() -> None:
    import medembed.train.__main__  # noqa: F401

    for line in sys.stdin:
        order = json.loads(line)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for old in Path(order["folder"]).glob("told-*"):
            old.unlink()
        with (Path(order["folder"]) / "stderr").open("w") as stderr:
            children = [_fork(order, rank, port, stderr.fileno()) for rank in range(order["processes"])]
            codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)


def _fork(order: dict[str, Any], rank: int, port: int, stderr: int) -> int:
    if child := os.fork():
        return child
    os.dup2(stderr, 2)
    if order["processes"] > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": order["processes"], "MASTER_PORT": port}
        os.environ |= {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "127.0.0.1"}
    code = 1
    try:
        code = _train(order, rank)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _train(order: dict[str, Any], rank: int) -> int:
    import logging
    import traceback
    import warnings

    from safetensors.torch import save_file

    from medembed import models
    from medembed.errors import MedEmbedError, Stopped
    from medembed.recipe_file import load
    from medembed.run import Run
    from medembed.train import _checkpoints, checks, data, pushing, start_together, stopping
    from medembed.train.checkpoints import last_checkpoint
    from medembed.train.trainer import fit

    logging.basicConfig(level=logging.INFO if rank == 0 else logging.ERROR, format="%(message)s", force=True)
    warnings.simplefilter("ignore", FutureWarning)
    stopping.listen()
    folder, harm = Path(order["folder"]), order["harm"]
    if harm.get("fsdp"):
        _shard_on_the_cpu()
    recipe = load(Path(order["recipe"]), tuple(order["values"]))
    run = Run(recipe, folder)
    try:
        with _space(run.path("train"), harm.get("space")):
            found = data.find(recipe.data, run)
            rows = data.read(found, recipe.data, recipe.train.negatives, recipe.train.seed)
            batches = checks.batches_of(rows, recipe.train)
            checkpoint = start_together(last_checkpoint(_checkpoints(run)) if rank == 0 else None)[1]
            callbacks = [_measuring(folder)] if harm.get("measure") and rank == 0 else []
            if recipe.train.checkpoint_branch and rank == 0:
                pushing.check(recipe, found.provenance)
                callbacks.append(pushing.Pushing(recipe, _checkpoints(run)))
            if harm.get("rank", 0) == rank:
                _harm(**harm)
            model = models.load(recipe.base)
            trained = fit(model, rows, batches, recipe.train, _checkpoints(run), checkpoint, callbacks)
            if rank == 0:
                save_file(trained.weights, folder / "weights.safetensors")
                (folder / "losses.json").write_text(json.dumps(trained.losses))
    except (MedEmbedError, Stopped) as error:
        traceback.print_exc()
        (folder / f"told-{rank}").write_text(str(error))
        return error.exit_code
    return 0


@contextlib.contextmanager
def _space(folder: Path, kilobytes: int | None) -> Iterator[None]:
    """Give `folder` a disk of its own of that size; the same one, made larger, when it has one."""
    if kilobytes:
        folder.mkdir(parents=True, exist_ok=True)
        how = f"remount,size={kilobytes}k" if os.path.ismount(folder) else f"size={kilobytes}k"
        subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(folder)], check=True)
    yield


def _harm(step: int = 0, signal: int = 0, save: int = 0, nan: int = 0, starve: int = 0, **_: Any) -> None:
    """Send this process `signal` in its step or its write to disk; spoil the weights in step `nan`, ask for too much memory in `starve`."""
    import torch

    steps = writes = 0
    take, write = torch.optim.AdamW.step, torch.save

    def harmed_step(self: torch.optim.Optimizer, *settings: Any, **named: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == step:
            os.kill(os.getpid(), signal)
        result = take(self, *settings, **named)
        if steps == nan:
            torch.nn.init.constant_(self.param_groups[0]["params"][0], float("nan"))
        if steps == starve:
            torch.empty(2**60)
        return result

    def harmed_write(*settings: Any, **named: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes == save:
            os.kill(os.getpid(), signal)
        return write(*settings, **named)

    torch.optim.AdamW.step, torch.save = harmed_step, harmed_write  # type: ignore[method-assign]


def _shard_on_the_cpu() -> None:
    """FSDP2 as recipes/accelerate/fsdp.yaml asks for it. Accelerate takes DDP instead on the CPU, where torch could do it: undo that."""
    from accelerate.state import AcceleratorState, DistributedType, PartialState

    asked = {"VERSION": "2", "AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "STATE_DICT_TYPE": "FULL_STATE_DICT"}
    os.environ |= {"ACCELERATE_USE_FSDP": "true"} | {f"FSDP_{name}": value for name, value in asked.items()}
    make = AcceleratorState.__init__

    def made(self: Any, *settings: Any, fsdp_plugin: Any = None, **named: Any) -> None:
        make(self, *settings, fsdp_plugin=fsdp_plugin, **named)
        if fsdp_plugin is not None:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = made


def _measuring(folder: Path) -> Any:
    """A callback that measures each checkpoint, draws from every generator meanwhile, and says after which steps it did."""
    import numpy as np
    import torch
    from transformers import TrainerCallback

    class Measuring(TrainerCallback):  # type: ignore[misc]
        def on_save(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
            random.random(), np.random.random(), torch.rand(1)
            assert model.encode("fever").shape
            with (folder / "measured").open("a") as file:
                file.write(f"{state.global_step} ")

    return Measuring()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve()
