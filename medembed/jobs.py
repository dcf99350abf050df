"""Recipes in their run folders, and what commands do with them: one stage, or the chain from a dataset's recipe to its model's."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

import typer

from medembed import report, stages
from medembed.errors import Fault, InputError
from medembed.recipe import DatasetRecipe, ModelRecipe, Recipe, contradictions
from medembed.recipe_file import dataset_recipe_of, load
from medembed.run import Record, Run

Executor = Literal["local", "slurm", "ray"]


@dataclass
class Job:
    """One recipe in its run folder."""

    path: Path
    overrides: tuple[str, ...]
    recipe: Recipe
    run: Run

    @classmethod
    def of(cls, path: Path, overrides: list[str] | None, run_dir: Path | None) -> "Job":
        recipe = load(path, tuple(overrides or ()))
        return cls(path, tuple(overrides or ()), recipe, Run(recipe, run_dir))


def chain(
    path: Path, overrides: list[str] | None, endpoint: Sequence[str] = (), run_dir: Path | None = None
) -> list[Job]:
    """The recipe's job, after that of the dataset's recipe where it names one; the faults of both are told together.

    `endpoint`: overrides of the recipe that generates.
    """
    mine = [text for text in overrides or [] if not text.startswith("dataset.")]
    theirs = [text.removeprefix("dataset.") for text in overrides or [] if text.startswith("dataset.")]
    theirs += endpoint
    jobs: list[Job] = []
    faults: list[Fault] = []
    first = dataset_recipe_of(path, tuple(mine))
    for each, values in [(Path(os.path.relpath(first)), theirs), (path, mine)] if first else [(path, mine + theirs)]:
        try:
            jobs.append(Job.of(each, values, run_dir))
        except InputError as error:
            faults += error.faults
    if any(text.startswith("name=") for text in theirs if first):
        faults.append(
            Fault("the name of a dataset is set in its own recipe: by it the model finds the data", "dataset.name")
        )
    match [job.recipe for job in jobs]:
        case [DatasetRecipe() as dataset, ModelRecipe() as model]:
            faults += [Fault(f"`{key}`: {what}", str(path)) for key, what in contradictions(dataset, model)]
        case [_, _]:
            faults.append(Fault("`data.dataset`: is not the recipe of a dataset", str(path)))
    if faults:
        raise InputError(*faults)
    for job in jobs[:-1]:
        job.run.folder = jobs[-1].run.folder.parent / job.recipe.name
    return jobs


def perform(stage: str, job: Job, config_file: Path | None = None) -> Record:
    """Do one stage of a job and tell in a line what it did, or that it was done."""
    check_stage(stage, job)
    skipped: list[Record] = []
    if stage == "train":
        from medembed.train.launch import launch

        if (record := stages.done(stage, job.recipe, job.run)) is None:
            launch(job.path, job.overrides, job.run.folder, config_file)
            record = job.run.finished(stage)
        else:
            skipped.append(record)
    else:
        record = stages.perform(stage, job.recipe, job.run, skipped.append)
    echo(report.line(record, skipped=bool(skipped)))
    return record


def generate_in_shards(job: Job, executor: Executor, tasks: int) -> None:
    """Ask by several tasks, and merge; on Slurm both are only submitted."""
    assert isinstance(job.recipe, DatasetRecipe)
    try:
        from medembed.generate import shards

        if executor == "ray":
            import_module("ray")
    except ImportError as error:
        extra = "ray" if executor == "ray" else "executors"
        what, mend = f"the package {error.name} is not installed", f"Install it: `pip install 'medembed[{extra}]'`."
        raise InputError.of(what, f"--executor {executor}", mend) from error
    if stages.done("generate", job.recipe, job.run) or shards.ask_in_shards(job.recipe, job.run, executor, tasks):
        shards.gather(job.recipe, job.run)
        perform("generate", job)
        shards.deliver(job.recipe, job.run)
    else:
        echo(f"generate   {tasks} tasks and their merge are submitted; the same command submits again what did not end")


def check_stage(stage: str, job: Job) -> None:
    """Refuse a stage that the recipe does not have."""
    if stage not in stages.stages_of(job.recipe):
        raise InputError.of(f"a {job.recipe.kind} recipe without such a section has no stage `{stage}`", str(job.path))


def echo(text: str) -> None:
    """Print below a progress bar that may stand on the line."""
    sys.stderr.flush()
    typer.echo(text)
