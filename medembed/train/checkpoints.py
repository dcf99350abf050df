"""Checkpoints that are known to be whole: a mark with the hash of every file is written last, by the trainer's callback.

A process may be killed while it writes, or a disk be full; training then goes on from the last checkpoint that is as it was written.
"""

import errno
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from medembed.processes import processes
from medembed.run import read_json, sha256, write_json

log = logging.getLogger(__name__)

COMPLETE = "complete.json"  # written last into a checkpoint: file → sha256


def last_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that is whole; later ones, which a killed process left half-written, are removed."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.partition("-")[2]), reverse=True):
        if _is_whole(checkpoint):
            return checkpoint
        log.warning("%s is not whole and is removed", checkpoint.name)
        shutil.rmtree(checkpoint)
    return None


class CompletionMark(TrainerCallback):  # type: ignore[misc]
    """Marks a checkpoint as whole when every process has written its part."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        processes().wait_for_everyone()
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != COMPLETE)
            write_json(folder / COMPLETE, {p.relative_to(folder).as_posix(): sha256(p) for p in files})


@contextmanager
def full_disk_is_seen(folder: Path) -> Iterator[None]:
    """Raise a full disk as the OSError that it is: torch and safetensors hide it behind errors of their own."""
    try:
        yield
    except Exception as error:
        if shutil.disk_usage(folder).free > 1_000_000:
            raise
        raise OSError(errno.ENOSPC, "no space left", str(folder)) from error


def _is_whole(checkpoint: Path) -> bool:
    mark = checkpoint / COMPLETE
    if not mark.exists():
        return False
    files: dict[str, str] = read_json(mark)
    return all((checkpoint / name).exists() and sha256(checkpoint / name) == found for name, found in files.items())
