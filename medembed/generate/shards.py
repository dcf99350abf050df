"""Asking by many processes or machines at once: each task of an executor asks about a shard of the notes, with a journal of its own.

A note's shard is drawn from its id, so that any task finds its own notes without being told. Merging is the stage itself: it reads
the journals of all shards and asks only what none of them answered. So any task, and the merge, can be killed and run again.
"""

import asyncio
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("LOGURU_DIAGNOSE", "NO")  # datatrove's logger would write the values of variables, and so notes

from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.io import DataFolder, get_datafolder
from datatrove.pipeline.base import PipelineStep

from medembed import stages
from medembed.errors import InputError, MedEmbedError, RunError
from medembed.generate import ask, options_of
from medembed.generate.notes import read_notes
from medembed.generate.passages import Note
from medembed.llm.journal import Journal
from medembed.recipe import UNCHECKED_PATHS, DatasetRecipe, Generate
from medembed.run import Run

log = logging.getLogger(__name__)

Executor = Literal["local", "slurm", "ray"]
BROUGHT_EVERY = 60.0  # seconds between two copies of a shard's journal to the store


def ask_in_shards(recipe: DatasetRecipe, run: Run, executor: Executor, tasks: int) -> bool:
    """Ask about all notes in `tasks` shards; whether that is done (on Slurm it has only been submitted, the merge with it).

    Raises:
        InputError: the recipe lacks what the executor needs.
        RunError: a task failed; the same command goes on.
    """
    options = _options(recipe)
    markers = f"{_place(options, run)}/tasks/{stages.today('generate', recipe, run)[:16]}-{tasks}"
    asking = _executor(executor, [AskShard(recipe, run)], tasks, options, markers)
    with run.locked():
        if executor == "slurm":
            merging = _executor(executor, [Merge(recipe, run)], 1, options, f"{markers}/merge")
            merging.depends, merging.skip_completed = asking, False
            merging.run()
            return False
        asking.run()
    if left := asking.get_incomplete_ranks(skip_completed=True):
        what = f"{len(left)} of {tasks} tasks did not end: {', '.join(map(str, left[:10]))}"
        raise RunError.of(what, f"{markers}/logs", "The logs there say why; the same command goes on.")
    return True


def shard_of(note_id: str, shards: int) -> int:
    """Which of `shards` tasks asks about a note."""
    return int(note_id, 16) % shards


class _Step(PipelineStep):  # type: ignore[misc]
    """A step that carries a recipe and its run folder to where it is run."""

    type = "medembed"

    def __init__(self, recipe: DatasetRecipe, run: Run) -> None:
        super().__init__()
        self.recipe = recipe.model_dump_json(exclude_none=True)
        self.folder = str(run.folder.absolute())

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        try:
            recipe = DatasetRecipe.model_validate_json(self.recipe, context=UNCHECKED_PATHS)
            self.work(recipe, Run(recipe, Path(self.folder)), rank, world_size)
        except MedEmbedError as error:
            raise RunError(*error.faults) from None
        except Exception as error:
            # datatrove writes what it catches to its logs, and the message of a bug might quote a note.
            raise RunError.of(f"{type(error).__name__}: a bug of medembed, or of a library", f"task {rank}") from None
        return iter(())

    def work(self, recipe: DatasetRecipe, run: Run, rank: int, world_size: int) -> None:
        raise NotImplementedError


class AskShard(_Step):
    """Ask about the notes of one shard."""

    name = "ask"

    def work(self, recipe: DatasetRecipe, run: Run, rank: int, world_size: int) -> None:
        options = _options(recipe)
        name = f"journal-{rank:05d}-of-{world_size:05d}.jsonl"
        with _kept(name, options, run) as folder, Journal.of(folder, name) as journal:
            mine = (
                note
                for note in read_notes(recipe.notes, options)
                if isinstance(note, Note) and shard_of(note.note_id, world_size) == rank
            )
            asyncio.run(ask(mine, options, journal))


class Merge(_Step):
    """The generate stage over what the shards have answered."""

    name = "merge"

    def work(self, recipe: DatasetRecipe, run: Run, rank: int, world_size: int) -> None:
        gather(recipe, run)
        stages.perform("generate", recipe, run)
        deliver(recipe, run)


# ---- where journals are kept -----------------------------------------------------------------------------------------


def gather(recipe: DatasetRecipe, run: Run) -> None:
    """Bring the journals of all shards from the recipe's store, where it names one, into the run folder."""
    if _options(recipe).store:
        with run.locked():
            _fetch(_store(_options(recipe), run), run.folder)


def deliver(recipe: DatasetRecipe, run: Run) -> None:
    """Copy what the stage made to the recipe's store, where it names one."""
    if _options(recipe).store:
        store = _store(_options(recipe), run)
        store.makedirs("generate", exist_ok=True)
        for path in [*sorted(run.path("generate").glob("*.parquet")), run.path("generate", "record.json")]:
            store.put_file(str(path), f"generate/{path.name}")


@contextmanager
def _kept(name: str, options: Generate, run: Run) -> Iterator[Path]:
    """The folder of the journals: the run's; with a store one of this machine, whose `name` is brought to the store every minute."""
    if options.store is None:
        yield run.folder
        return
    store = _store(options, run)
    over = threading.Event()
    with tempfile.TemporaryDirectory(prefix="medembed-") as folder:
        path = Path(folder, name)
        _fetch(store, path.parent)

        def bring() -> None:
            while not over.wait(BROUGHT_EVERY):
                try:
                    store.put_file(str(path), name)
                except OSError as error:
                    log.warning(
                        "%s: cannot be written (%s); tried again in a minute", options.store, type(error).__name__
                    )

        bringing = threading.Thread(target=bring, daemon=True)
        bringing.start()
        try:
            yield path.parent
        finally:
            over.set()
            bringing.join()
            if path.exists():
                store.put_file(str(path), name)


def _fetch(store: DataFolder, folder: Path) -> None:
    """Bring all journals from the store, but for those of which as much is here: journals only grow."""
    for name in store.glob("journal-*.jsonl"):
        path = folder / name
        if store.size(name) > (path.stat().st_size if path.exists() else -1):
            store.get_file(name, str(path))


def _store(options: Generate, run: Run) -> DataFolder:
    return get_datafolder(_place(options, run))


def _place(options: Generate, run: Run) -> str:
    return (options.store or str(run.folder.absolute())).rstrip("/")


# ---- who runs the tasks ----------------------------------------------------------------------------------------------


def _executor(
    kind: Executor, pipeline: list[PipelineStep], tasks: int, options: Generate, markers: str
) -> PipelineExecutor:
    if kind == "local":
        return LocalPipelineExecutor(pipeline, tasks, logging_dir=markers)
    if kind == "ray":
        ray = options.ray
        return RayPipelineExecutor(
            pipeline, tasks, ray.most or -1, logging_dir=markers, cpus_per_task=ray.cpus, mem_per_cpu_gb=ray.memory
        )
    if (slurm := options.slurm) is None:
        mend = "Say at least `slurm: {partition: NAME}`."
        raise InputError.of("does not say what to ask Slurm for", "generate.slurm", mend)
    return SlurmPipelineExecutor(
        pipeline,
        tasks,
        slurm.time,
        slurm.partition,
        cpus_per_task=slurm.cpus,
        mem_per_cpu_gb=slurm.memory,
        workers=slurm.most or -1,
        job_name=f"medembed-{pipeline[0].name}",
        qos=slurm.options.get("qos"),
        env_command=slurm.before or f"export PATH={Path(sys.executable).parent}:$PATH",
        sbatch_args=slurm.options,
        logging_dir=markers,
    )


def _options(recipe: DatasetRecipe) -> Generate:
    if not (options := options_of(recipe)).endpoints:
        raise InputError.of("names no server to ask", "generate.endpoints", "Recorded replies need no tasks.")
    return options
