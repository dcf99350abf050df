"""SIGTERM (spot machines, schedulers), or the end of who started this process → an end in good order.

While a model is trained, that is a checkpoint after the step that is under way; at all other times, at once.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from medembed.errors import Stopped
from medembed.processes import processes

_STOPPED = "stopped; the same command goes on from here"


class _Sigterm:
    heard = False
    may_wait = False  # for the end of a step


def listen(leash: int | None = None) -> None:
    """Hear SIGTERM from now on. The end of the file `leash`, or else of the launcher that started us, means the same."""
    signal.signal(signal.SIGTERM, _hear)
    if leash is not None:
        threading.Thread(target=_until_the_leash_ends, args=[leash], daemon=True).start()
    if "ACCELERATE_MIXED_PRECISION" in os.environ:  # our parent is a launcher, not a shell that may be left
        threading.Thread(target=_until_orphaned, args=[os.getppid()], daemon=True).start()


@contextmanager
def after_the_step() -> Iterator[None]:
    """In this block SIGTERM only makes `asked` true."""
    _Sigterm.may_wait = True
    try:
        yield
    finally:
        _Sigterm.may_wait = False


@contextmanager
def at_once() -> Iterator[None]:
    """In this block, within that of `after_the_step`, SIGTERM ends at once: a checkpoint stands, and nothing is lost.

    Raises:
        Stopped: then, or when it was heard before.
    """
    if _Sigterm.heard:
        raise Stopped(_STOPPED)
    _Sigterm.may_wait = False
    try:
        yield
    finally:
        _Sigterm.may_wait = True


def asked() -> bool:
    """Whether any of the processes was told to stop; all of them ask this at the same step."""
    told = torch.tensor(float(_Sigterm.heard), device=processes().device)
    if processes().num_processes > 1:
        torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
    return bool(told)


def _hear(number: int, _: Any) -> None:
    if _Sigterm.heard:
        return  # who ends a group of processes may tell each of them more than once
    _Sigterm.heard = True
    if not _Sigterm.may_wait:
        raise Stopped(_STOPPED)


def _until_the_leash_ends(leash: int) -> None:
    while os.read(leash, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _until_orphaned(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
