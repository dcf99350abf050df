"""Triplets → model: the base is measured, then trained so that each query ranks its passage above all others of its batch.

`work` is what the main process does; the other processes of `accelerate launch` wait and then `follow`. Killed at any point, the
same command goes on from the last whole checkpoint and ends with the same weights.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list

from medembed import models
from medembed.errors import Fault, InputError
from medembed.evaluate import baseline  # the one arrow between stages: the base is measured first, by the same code
from medembed.processes import processes
from medembed.recipe import ModelRecipe, Train
from medembed.run import Record, Run, sha256, write_json
from medembed.train import data
from medembed.train.batches import GlobalBatches
from medembed.train.trainer import Trained, fit, full_disk_is_seen, last_checkpoint


def inputs(recipe: ModelRecipe, run: Run) -> tuple[Any, dict[str, Any]]:
    base, found = models.resolve(recipe.base), data.find(recipe.data, run)
    said = recipe.model_dump(mode="json", include={"base", "data", "train"})
    said["base"]["model"] = base.name  # its revision says which one; a folder may move
    said["data"]["dataset"] = found.name
    return said, {"base": base.revision, "dataset": found.revision}


def work(recipe: ModelRecipe, run: Run) -> Record:
    _check_processes(recipe.train)
    base, found = models.resolve(recipe.base), data.find(recipe.data, run)
    rows = data.read(found, recipe.data, recipe.train.negatives, recipe.train.seed)
    batches = _batches(rows, recipe.train)
    rejects = run.write_rejects("train", rows.rejects)
    baseline(recipe, run)
    checkpoint = last_checkpoint(_checkpoints(run))
    start_together(checkpoint)
    trained = fit(models.load(recipe.base), rows, batches, recipe.train, _checkpoints(run), checkpoint)
    _save(trained, recipe, run)
    negatives = rows.texts.shape[1] - 2
    return Record(
        stage="train",
        counts={
            "rows in": rows.offered,
            "rows": len(rows.dataset),
            "rows of an epoch": batches.steps * recipe.train.batch_size,  # the others fill no batch
        },
        rejects=rejects,
        facts={
            "base": {"name": base.name, "revision": base.revision},
            "dataset": {
                "name": found.name,
                "revision": found.revision,
                "config": recipe.data.config,
                "rows": len(rows.dataset),
                "provenance": found.provenance,
            },
            "hyperparameters": recipe.train.model_dump(mode="json"),
            "steps": len(trained.losses),
            "pairs": len(trained.losses) * recipe.train.batch_size,
            "negatives": negatives,
            "compared_with": recipe.train.batch_size - 1 + negatives * recipe.train.batch_size,  # passages a query
            "loss": {"first": _mean_of_tenth(trained.losses), "last": _mean_of_tenth(trained.losses[::-1])},
        },
        outputs={
            path.relative_to(run.path("train")).as_posix(): sha256(path)
            for path in [run.path("train", "losses.json"), *sorted(run.path("train", "model").rglob("*"))]
            if path.is_file()
        },
        measured=_hardware(),
    )


def follow(recipe: ModelRecipe, run: Run, checkpoint: Path | None) -> None:
    """What the other processes do once the main one has said from which checkpoint to start."""
    rows = data.read(data.find(recipe.data, run), recipe.data, recipe.train.negatives, recipe.train.seed)
    fit(models.load(recipe.base), rows, _batches(rows, recipe.train), recipe.train, _checkpoints(run), checkpoint)


def start_together(checkpoint: Path | None = None, *, there_is_work: bool = True) -> tuple[bool, Path | None]:
    """Tell the other processes whether to train and from where; in those, hear it. Returns once all have called it."""
    told: tuple[bool, Path | None] = broadcast_object_list([(there_is_work, checkpoint)])[0]
    return told


def clean(run: Run) -> None:
    """Remove the checkpoints, when the model and its record stand."""
    shutil.rmtree(_checkpoints(run), ignore_errors=True)


def _checkpoints(run: Run) -> Path:
    return run.path("train", "checkpoints")


def _check_processes(train: Train) -> None:
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


def _batches(rows: data.Rows, train: Train) -> GlobalBatches:
    batches = GlobalBatches(rows.texts, train.batch_size, processes().num_processes, train.seed)
    if not batches.steps:
        what = f"{len(rows.dataset)} rows fill no batch of {train.batch_size} in which no row's answer is another's negative"
        raise InputError.of(what, "train.batch_size", "Lower it, or train on more rows.")
    return batches


def _save(trained: Trained, recipe: ModelRecipe, run: Run) -> None:
    """Write the base with its new weights: tokenizer, prompts, pooling and max length are the base's, not those of training."""
    model = models.load(recipe.base, device="cpu")
    model.load_state_dict(trained.weights)
    temporary, final = run.path("train", ".model.tmp"), run.path("train", "model")
    shutil.rmtree(temporary, ignore_errors=True)
    with full_disk_is_seen(run.path("train")):
        model.save_pretrained(str(temporary), create_model_card=False)
    (temporary / "README.md").write_text(f"{recipe.name}: `medembed publish` writes the card.\n", encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    write_json(run.path("train", "losses.json"), trained.losses)


def _mean_of_tenth(losses: list[float]) -> float:
    tenth = losses[: max(1, len(losses) // 10)]
    return round(sum(tenth) / len(tenth), 4)


def _hardware() -> dict[str, Any]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {"device": device, "processes": processes().num_processes, "threads": torch.get_num_threads()}
