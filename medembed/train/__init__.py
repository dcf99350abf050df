"""Triplets → model: the base is measured, then trained so that each query ranks its passage above all others of its batch.

`work` is what the main process does; the other processes of `accelerate launch` wait and then `follow`. Killed at any point, the
same command goes on from the last whole checkpoint and ends with the same weights; stopped by SIGTERM, from the last step.
"""

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list

from medembed import models
from medembed.errors import InputError
from medembed.evaluate import baseline  # the one arrow between stages: the base is measured first, by the same code
from medembed.processes import OfOneProcess, processes
from medembed.recipe import ModelRecipe
from medembed.run import Record, Run, sha256
from medembed.tasks import task_name
from medembed.train import adapters, checks, data, development, pushing
from medembed.train.batches import GlobalBatches
from medembed.train.callbacks import check_reporters
from medembed.train.checkpoints import last_checkpoint
from medembed.train.guide import guided, left_out
from medembed.train.losses import compared_with
from medembed.train.saving import save
from medembed.train.selection import Measured, Selection
from medembed.train.trainer import Trained, fit

log = logging.getLogger(__name__)


def inputs(recipe: ModelRecipe, run: Run) -> tuple[Any, dict[str, Any]]:
    base, found = models.resolve(recipe.base), data.find(recipe.data, run)
    said = recipe.model_dump(mode="json", include={"base", "data", "train"})
    read: dict[str, Any] = {"base": base.revision, "dataset": found.revision}
    said["base"]["model"] = base.name  # its revision says which one; a folder may move
    said["data"]["dataset"] = found.name
    if recipe.train.development:
        said["train"]["development"]["tasks"] = [task_name(task) for task in recipe.train.development.tasks]
        read["development"] = development.identity(recipe.train.development, found)
    if recipe.train.guide:
        guide = models.resolve(recipe.train.guide.model)
        said["train"]["guide"]["model"]["model"], read["guide"] = guide.name, guide.revision
    return said, read


def work(recipe: ModelRecipe, run: Run) -> Record:
    _check_what_is_here(recipe)
    found = data.find(recipe.data, run)
    rows = _rows(recipe, found)
    batches = checks.batches_of(rows, recipe.train)
    looked = checks.before_the_first_step(recipe, found, rows, batches)
    selection = _selection(recipe, found, run)
    pushes = _pushes(recipe, found, run)
    rejects = run.write_rejects("train", rows.rejects)
    baseline(recipe, run)
    checkpoint = last_checkpoint(_checkpoints(run))
    if selection and checkpoint:
        selection.take(checkpoint)  # it may have been written just before a kill
    start_together(checkpoint)
    _see_with_guide(rows, recipe, run)
    compared = compared_with(recipe.train, rows.missing.shape[1], processes().num_processes)
    log.info("train      %s", compared)
    model, measuring = _model(recipe), [Measured(selection)] if selection else []
    trained = fit(model, rows, batches, recipe.train, _checkpoints(run), checkpoint, [*measuring, *pushes])
    if recipe.train.lora:
        trained.weights = adapters.merged(model)
    chosen: dict[str, Any] = {}
    if selection:
        last = _checkpoints(run) / f"checkpoint-{len(trained.losses)}"
        trained.weights, chosen["development"] = selection.choose(last)
    saved = save(trained, recipe, run)
    record = _record(recipe, found, rows, batches, trained, run)
    record.rejects = rejects
    record.facts |= {
        "checks": looked,
        "compared_with": compared,
        "guide": _guide(rows, recipe),
        **chosen,
        "model": saved,
    }
    record.measured["resumed"] = checkpoint is not None  # the seconds are then those since
    return record


def follow(recipe: ModelRecipe, run: Run, checkpoint: Path | None) -> None:
    """What the other processes do once the main one has said from which checkpoint to start."""
    try:
        rows = _rows(recipe, data.find(recipe.data, run))
        batches, model = checks.batches_of(rows, recipe.train), _model(recipe)
    except InputError as error:
        raise OfOneProcess(*error.faults) from error  # the main process, maybe on another machine, has found it all
    _see_with_guide(rows, recipe, run)
    fit(model, rows, batches, recipe.train, _checkpoints(run), checkpoint)


def start_together(checkpoint: Path | None = None, *, there_is_work: bool = True) -> tuple[bool, Path | None]:
    """Tell the other processes whether to train and from where; in those, hear it. Returns once all have called it."""
    told: tuple[bool, Path | None] = broadcast_object_list([(there_is_work, checkpoint)])[0]
    return told


def clean(run: Run) -> None:
    """Remove the checkpoints, when the model and its record stand."""
    shutil.rmtree(_checkpoints(run), ignore_errors=True)


def _check_what_is_here(recipe: ModelRecipe) -> None:
    """
    Raises:
        InputError: processes that would train apart, or a package that is not installed.
    """
    checks.processes_fit(recipe.train)
    adapters.check(recipe.train)
    check_reporters(recipe.train)


def _rows(recipe: ModelRecipe, found: data.Found) -> data.Rows:
    train = recipe.train
    return data.read(found, recipe.data, train.negatives, train.seed, taught=train.losses.taught)


def _selection(recipe: ModelRecipe, found: data.Found, run: Run) -> Selection | None:
    if recipe.train.development is None:
        return None
    rankings = development.read(recipe.train.development, found, recipe.evaluate)
    return Selection(recipe, rankings, _checkpoints(run) / "development")


def _pushes(recipe: ModelRecipe, found: data.Found, run: Run) -> list[pushing.Pushing]:
    if not recipe.train.checkpoint_branch:
        return []
    pushing.check(recipe, found.provenance)
    return [pushing.Pushing(recipe, _checkpoints(run))]


def _guide(rows: data.Rows, recipe: ModelRecipe) -> dict[str, Any] | None:
    if not (recipe.train.guide and rows.guide):
        return None
    resolved = models.resolve(recipe.train.guide.model)
    return {"name": resolved.name, "revision": resolved.revision, "left_out": round(left_out(rows.guide), 4)}


def _see_with_guide(rows: data.Rows, recipe: ModelRecipe, run: Run) -> None:
    """Let the recipe's guide, where it has one, embed the rows; all processes together."""
    if recipe.train.guide:
        rows.guide = guided(rows, recipe.train.guide, run.path("embeddings"))


def _model(recipe: ModelRecipe) -> Any:
    """The base, made ready to be trained as the recipe says."""
    model = models.load(recipe.base, method=recipe.train.method)
    if recipe.train.lora:
        adapters.add(model, recipe.base, recipe.train.lora, recipe.train.seed)
    return model


def _checkpoints(run: Run) -> Path:
    return run.path("train", "checkpoints")


def _record(
    recipe: ModelRecipe, found: data.Found, rows: data.Rows, batches: GlobalBatches, trained: Trained, run: Run
) -> Record:
    base, steps = models.resolve(recipe.base), len(trained.losses)
    dataset = {"name": found.name, "revision": found.revision, "config": recipe.data.config}
    return Record(
        stage="train",
        counts={"rows in": rows.offered, "rows": len(rows.dataset), "rows of an epoch": batches.rows},
        facts={
            "base": {"name": base.name, "revision": base.revision},
            "dataset": dataset | {"rows": len(rows.dataset), "provenance": found.provenance},
            "hyperparameters": recipe.train.model_dump(mode="json"),
            "steps": steps,
            "pairs": steps * recipe.train.batch_size * recipe.train.accumulation,
            "negatives": rows.missing.shape[1],
            "loss": {"first": _mean_of_tenth(trained.losses), "last": _mean_of_tenth(trained.losses[::-1])},
        },
        outputs={
            path.relative_to(run.path("train")).as_posix(): sha256(path)
            for path in [run.path("train", "losses.json"), *sorted(run.path("train", "model").rglob("*"))]
            if path.is_file()
        },
        measured=_hardware(),
    )


def _mean_of_tenth(losses: list[float]) -> float:
    tenth = losses[: max(1, len(losses) // 10)]
    return round(sum(tenth) / len(tenth), 4)


def _hardware() -> dict[str, Any]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {"device": device, "processes": processes().num_processes, "threads": torch.get_num_threads()}
