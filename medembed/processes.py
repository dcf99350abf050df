"""The processes of `accelerate launch`, or the one there is."""

import argparse
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from medembed.errors import Fault, InputError, RunError

if TYPE_CHECKING:
    from accelerate import PartialState


def processes() -> "PartialState":
    """The processes that work together; the first call joins them. They may wait for each other for days."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=14))


def launched() -> int:
    """How many processes were started together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def sharded() -> bool:
    """Whether each process will hold a part of the model alone (FSDP), as `accelerate launch` tells by the environment."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false") == "true"


def is_lost_peer(error: BaseException) -> bool:
    """Whether another process ended while this one worked with it."""
    import torch

    return isinstance(error, torch.distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


class OfOneProcess(RunError):
    """What stopped one of several processes alone. Other errors are those of all, and the main process tells them."""

    def __init__(self, *faults: Fault) -> None:
        state = processes()
        here = f"process {state.process_index} of {state.num_processes}"
        if state.num_processes > 1:
            faults = tuple(replace(fault, where=f"{fault.where}, {here}" if fault.where else here) for fault in faults)
        super().__init__(*faults)


def check_together() -> None:
    """
    Raises:
        InputError: several processes were started that do not know of each other.
    """
    if launched() != processes().num_processes:
        mend = "On CPU: `accelerate launch --multi_gpu --num_processes N`."
        raise InputError.of("several processes were started that would work apart", "accelerate", mend)


def arguments(stage: str, description: str) -> argparse.Namespace:
    """What the command line of `accelerate launch -m medembed.<stage>` says: recipe, overrides, run_dir."""
    parser = argparse.ArgumentParser(prog=f"accelerate launch -m medembed.{stage}", description=description)
    parser.add_argument("recipe", type=Path, metavar="RECIPE")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="else runs/<name of the recipe>")
    return parser.parse_intermixed_args()
