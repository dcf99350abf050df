"""What would make a run worthless is told before its first step: processes that train apart, batches that cannot be filled."""

import os

import torch

from medembed.errors import Fault, InputError
from medembed.processes import processes
from medembed.recipe import Train
from medembed.train import data
from medembed.train.batches import GlobalBatches


def processes_fit(train: Train) -> None:
    """Raises InputError, with all faults, when the processes were not started in a way that trains well."""
    world, faults = processes().num_processes, []
    if int(os.environ.get("WORLD_SIZE", "1")) != world:
        mend = "On CPU: `accelerate launch --multi_gpu --num_processes N`."
        faults.append(Fault("several processes were started that would train apart", "accelerate", mend))
    if world == 1 and torch.cuda.device_count() > 1:
        mend = "Launch with `--multi_gpu`, or show it one: `CUDA_VISIBLE_DEVICES=0`."
        faults.append(Fault(f"one process sees {torch.cuda.device_count()} GPUs", "accelerate", mend))
    if train.batch_size % world:
        what = f"a batch of {train.batch_size} cannot be shared by {world} processes"
        faults.append(Fault(what, "train.batch_size", f"Make it a multiple of {world}."))
    if train.precision == "fp16" and not torch.cuda.is_available():
        faults.append(Fault("fp16 needs a GPU", "train.precision", "Use `fp32` here."))
    if faults:
        raise InputError(*faults)


def batches_of(rows: data.Rows, train: Train) -> GlobalBatches:
    batches = GlobalBatches(rows.texts, train.batch_size, processes().num_processes, train.seed)
    if not batches.steps:
        what = f"{len(rows.dataset)} rows fill no batch of {train.batch_size} in which no row's answer is another's negative"
        raise InputError.of(what, "train.batch_size", "Lower it, or train on more rows.")
    return batches
