"""Triplets → model: the base is measured, then trained so that each query ranks its passage above all others of its batch.

`work` is what the main process does; the other processes of `accelerate launch` wait and then `follow`. Killed at any point, the
same command goes on from the last whole checkpoint and ends with the same weights.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list

from medembed import models
from medembed.evaluate import baseline  # the one arrow between stages: the base is measured first, by the same code
from medembed.processes import processes
from medembed.recipe import ModelRecipe
from medembed.run import Record, Run, sha256
from medembed.train import checks, data
from medembed.train.checkpoints import last_checkpoint
from medembed.train.saving import save
from medembed.train.trainer import fit


def inputs(recipe: ModelRecipe, run: Run) -> tuple[Any, dict[str, Any]]:
    base, found = models.resolve(recipe.base), data.find(recipe.data, run)
    said = recipe.model_dump(mode="json", include={"base", "data", "train"})
    said["base"]["model"] = base.name  # its revision says which one; a folder may move
    said["data"]["dataset"] = found.name
    return said, {"base": base.revision, "dataset": found.revision}


def work(recipe: ModelRecipe, run: Run) -> Record:
    checks.processes_fit(recipe.train)
    base, found = models.resolve(recipe.base), data.find(recipe.data, run)
    rows = data.read(found, recipe.data, recipe.train.negatives, recipe.train.seed)
    batches = checks.batches_of(rows, recipe.train)
    looked = checks.before_the_first_step(recipe, found, rows, batches)
    rejects = run.write_rejects("train", rows.rejects)
    baseline(recipe, run)
    checkpoint = last_checkpoint(_checkpoints(run))
    start_together(checkpoint)
    trained = fit(models.load(recipe.base), rows, batches, recipe.train, _checkpoints(run), checkpoint)
    save(trained, recipe, run)
    negatives = rows.texts.shape[1] - 2
    return Record(
        stage="train",
        counts={
            "rows in": rows.offered,
            "rows": len(rows.dataset),
            "rows of an epoch": batches.rows,
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
            "checks": looked,
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
    fit(
        models.load(recipe.base),
        rows,
        checks.batches_of(rows, recipe.train),
        recipe.train,
        _checkpoints(run),
        checkpoint,
    )


def start_together(checkpoint: Path | None = None, *, there_is_work: bool = True) -> tuple[bool, Path | None]:
    """Tell the other processes whether to train and from where; in those, hear it. Returns once all have called it."""
    told: tuple[bool, Path | None] = broadcast_object_list([(there_is_work, checkpoint)])[0]
    return told


def clean(run: Run) -> None:
    """Remove the checkpoints, when the model and its record stand."""
    shutil.rmtree(_checkpoints(run), ignore_errors=True)


def _checkpoints(run: Run) -> Path:
    return run.path("train", "checkpoints")


def _mean_of_tenth(losses: list[float]) -> float:
    tenth = losses[: max(1, len(losses) // 10)]
    return round(sum(tenth) / len(tenth), 4)


def _hardware() -> dict[str, Any]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {"device": device, "processes": processes().num_processes, "threads": torch.get_num_threads()}
