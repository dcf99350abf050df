"""Checkpoints that are known to be whole: a mark with the hash of every file is written last, by the trainer's callback.

A process may be killed while it writes, a disk be full, a file be damaged later; training then goes on from the last checkpoint that
is as it was written.
"""

import errno
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from medembed.errors import InputError, MedEmbedError, RunError
from medembed.processes import OfOneProcess, is_lost_peer, processes
from medembed.run import read_json, sha256, write_json

log = logging.getLogger(__name__)

COMPLETE = "complete.json"  # written last into a checkpoint: file → sha256, and what it was written by
KEPT = 2


def last_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that is whole; later ones, which a killed process left half-written or which were damaged, are removed."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.partition("-")[2]), reverse=True):
        if fault := _fault(checkpoint):
            log.warning("train: %s is not whole (%s) and is removed", checkpoint.name, fault)
            shutil.rmtree(checkpoint)
            continue
        log.info("train: goes on from %s", checkpoint.name)
        made, here = read_json(checkpoint / COMPLETE)["by"], _by()
        if changed := [f"{name} {made.get(name)}, now {here[name]}" for name in here if made.get(name) != here[name]]:
            told = "; ".join(changed)
            log.warning("train: it was written by others (%s): weights may differ from an undisturbed run's", told)
        return checkpoint
    return None


class CompletionMark(TrainerCallback):  # type: ignore[misc]
    """Marks a checkpoint as whole when every process has written its part, and lets none go on before."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        processes().wait_for_everyone()
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != COMPLETE)
            hashes = {p.relative_to(folder).as_posix(): sha256(p) for p in files}
            with full_disk_is_seen(folder):
                write_json(folder / COMPLETE, {"files": hashes, "by": _by()})
        processes().wait_for_everyone()


@contextmanager
def full_disk_is_seen(folder: Path) -> Iterator[None]:
    """Raise a full disk as the error that it is: torch and safetensors hide it behind errors of their own."""
    try:
        yield
    except Exception as error:
        if (
            getattr(error, "errno", 0) not in (errno.ENOSPC, errno.EDQUOT)
            and shutil.disk_usage(folder).free > 1_000_000
        ):
            raise
        mend = "The checkpoint before is as it was. Free some space; the same command then goes on from there."
        raise OfOneProcess.of("no space left on the device", str(folder), mend) from error


@contextmanager
def loading_is_told(checkpoint: Path) -> Iterator[None]:
    """What a library cannot load although it is as it was written, such as a checkpoint of other versions, the user must decide on."""
    try:
        yield
    except Exception as error:
        if is_lost_peer(error) or isinstance(error, MedEmbedError | torch.OutOfMemoryError | MemoryError):
            raise
        what = f"cannot be loaded ({type(error).__name__}), although it is as {_told(read_json(checkpoint / COMPLETE)['by'])} wrote it"
        mend = f"Train with what wrote it; or remove it, and the same command goes on from the one before. Here is {_told(_by())}."
        raise RunError.of(what, str(checkpoint), mend) from error


def _fault(checkpoint: Path) -> str:
    """Why a checkpoint is not whole; nothing when it is."""
    try:
        files: dict[str, str] = read_json(checkpoint / COMPLETE)["files"]
    except (InputError, KeyError, TypeError):
        return "it was not finished"
    changed = [
        name for name, found in files.items() if not (checkpoint / name).is_file() or sha256(checkpoint / name) != found
    ]
    return f"changed since: {', '.join(changed)}" if changed else ""


def _by() -> dict[str, Any]:
    """What writes and reads checkpoints."""
    libraries = ("torch", "transformers", "sentence-transformers", "accelerate")
    return {"processes": processes().num_processes, **{name: version(name) for name in libraries}}


def _told(by: dict[str, Any]) -> str:
    return ", ".join(f"{name} {found}" for name, found in by.items())
