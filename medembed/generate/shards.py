"""Asking by many processes or machines at once: each task of an executor asks about a shard of the notes, with a journal of its own.

A note's shard is drawn from its id, so that any task finds its own notes without being told. Merging is the stage itself: it reads
the journals of all shards and asks only what none of them answered. So any task, and the merge, can be killed and run again.
"""

import asyncio
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("LOGURU_DIAGNOSE", "NO")  # datatrove's logger would write the values of variables, and so notes
os.environ.setdefault("LOGURU_BACKTRACE", "NO")  # and of an error where it comes from, not who called datatrove

import filelock
from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.io import DataFolder, get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger as task_log

from medembed import stages
from medembed.errors import InputError, MedEmbedError, RunError
from medembed.generate import ask, options_of
from medembed.generate.notes import read_notes
from medembed.generate.passages import Note
from medembed.llm.journal import Journal
from medembed.recipe import UNCHECKED_PATHS, DatasetRecipe, Generate
from medembed.run import Run, no_space_is_told

log = logging.getLogger(__name__)

Executor = Literal["local", "slurm", "ray"]
BROUGHT_EVERY = 60.0  # seconds between two copies of a shard's journal to the store


def ask_in_shards(recipe: DatasetRecipe, run: Run, executor: Executor, tasks: int) -> bool:
    """Ask about all notes in `tasks` shards; whether that is done (on Slurm it has only been submitted, the merge with it).

    Raises:
        InputError: the recipe lacks what the executor needs, there is no Slurm here, or the store cannot be written.
        RunError: a task failed, or Slurm did not take the jobs; the same command goes on.
    """
    options = _options(recipe)
    if options.store:
        with _store(options, run) as store:
            store.makedirs("tasks", exist_ok=True)
            store.pipe_file("tasks/writable", b"")
    markers = f"{_place(options, run)}/tasks/{stages.today('generate', recipe, run)[:16]}-{tasks}"
    asking = _executor(executor, [AskShard(recipe, run, _at_once(executor, tasks, options))], tasks, options, markers)
    with no_space_is_told("asking in shards", run.folder), run.locked():
        if executor == "slurm":
            _submit(asking, _executor(executor, [Merge(recipe, run)], 1, options, f"{markers}/merge"))
            return False
        asking.run()
    if left := asking.get_incomplete_ranks(skip_completed=True):
        what = f"{len(left)} of {tasks} tasks did not end: {', '.join(map(str, left[:10]))}"
        raise RunError.of(what, f"{markers}/logs", "The logs there say why; the same command goes on.")
    return True


def _submit(asking: PipelineExecutor, merging: PipelineExecutor) -> None:
    """Hand both to Slurm, the second to begin when the first has ended well."""
    if shutil.which("sbatch") is None:
        raise InputError.of("there is no sbatch here", "--executor slurm", "Run it where jobs are submitted from.")
    merging.depends, merging.skip_completed = asking, False
    try:
        merging.run()
    except subprocess.CalledProcessError as error:
        what = f"Slurm did not take the jobs: sbatch ended with {error.returncode}"
        raise RunError.of(what, "generate.slurm", "What it said stands above.") from error


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
            run = Run(recipe, Path(self.folder))
            with _logged_by_the_task(), no_space_is_told(f"doing task {rank}", run.folder):
                self.work(recipe, run, rank, world_size)
        except MedEmbedError as error:
            raise RunError(*error.faults) from None
        except Exception as error:
            # datatrove writes what it catches to its logs, and the message of a bug might quote a note.
            raise RunError.of(f"{type(error).__name__}: a bug of medembed, or of a library", f"task {rank}") from None
        return iter(())

    @abstractmethod
    def work(self, recipe: DatasetRecipe, run: Run, rank: int, world_size: int) -> None:
        """Do the task `rank` of `world_size`."""


class AskShard(_Step):
    """Ask about the notes of one shard, while `at_once` tasks do so in all."""

    name = "ask"

    def __init__(self, recipe: DatasetRecipe, run: Run, at_once: int) -> None:
        super().__init__(recipe, run)
        self.at_once = at_once

    def work(self, recipe: DatasetRecipe, run: Run, rank: int, world_size: int) -> None:
        options = _options(recipe)
        name = f"journal-{rank:05d}-of-{world_size:05d}.jsonl"
        with _kept(name, options, run) as folder, _alone(folder / name), Journal.of(folder, name) as journal:
            mine = (
                note
                for note in read_notes(recipe.notes, options)
                if isinstance(note, Note) and shard_of(note.note_id, world_size) == rank
            )
            asyncio.run(ask(mine, options, journal, among=self.at_once))


class Merge(_Step):
    """The generate stage over what the shards have answered."""

    name = "merge"

    def work(self, recipe: DatasetRecipe, run: Run, rank: int, world_size: int) -> None:
        gather(recipe, run)
        stages.perform("generate", recipe, run)
        deliver(recipe, run)


class _TaskLog(logging.Handler):
    """To the log that datatrove keeps of the task; what the first task of a machine logs is seen on its console too."""

    def emit(self, record: logging.LogRecord) -> None:
        task_log.log(record.levelname, record.getMessage())


@contextmanager
def _logged_by_the_task() -> Iterator[None]:
    ours, handler = logging.getLogger("medembed"), _TaskLog()
    before = ours.level, ours.propagate
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(before[0])
        ours.propagate = before[1]


@contextmanager
def _alone(journal: Path) -> Iterator[None]:
    """Write to a journal alone: the same command, given to Slurm twice, has each task twice."""
    try:
        with filelock.FileLock(journal.with_name(f".{journal.name}.lock"), timeout=0):
            yield
    except filelock.Timeout as error:
        raise RunError.of("another task asks about this shard", str(journal), "Wait until it ends.") from error


# ---- where journals are kept -----------------------------------------------------------------------------------------


def gather(recipe: DatasetRecipe, run: Run) -> None:
    """Bring the journals of all shards from the recipe's store, where it names one, into the run folder."""
    if _options(recipe).store:
        with run.locked(), _store(_options(recipe), run) as store:
            _fetch(store, run.folder)


def deliver(recipe: DatasetRecipe, run: Run) -> None:
    """Copy what the stage made to the recipe's store, where it names one."""
    if _options(recipe).store:
        with _store(_options(recipe), run) as store:
            store.makedirs("generate", exist_ok=True)
            for path in [*sorted(run.path("generate").glob("*.parquet")), run.path("generate", "record.json")]:
                store.put_file(str(path), f"generate/{path.name}")


@contextmanager
def _kept(name: str, options: Generate, run: Run) -> Iterator[Path]:
    """The folder of the journals: the run's; with a store one of this machine, whose `name` is brought to the store every minute."""
    if options.store is None:
        yield run.folder
        return
    path = Path(tempfile.mkdtemp(prefix="medembed-"), name)
    over = threading.Event()

    def bring() -> None:
        with _store(options, run, f"The journal is kept in {path}: copy it there.") as store:
            store.put_file(str(path), name)

    def keep_bringing() -> None:
        while not over.wait(BROUGHT_EVERY):
            try:
                bring()
            except InputError as error:
                log.warning("%s: %s; tried again in a minute", options.store, error.faults[0].what)

    with _store(options, run) as store:
        _fetch(store, path.parent)
    bringing = threading.Thread(target=keep_bringing, daemon=True)
    bringing.start()
    try:
        yield path.parent
    finally:
        over.set()
        bringing.join()
        if path.exists():
            bring()
        shutil.rmtree(path.parent)


def _fetch(store: DataFolder, folder: Path) -> None:
    """Bring all journals from the store, but for those of which as much is here: journals only grow."""
    for name in store.glob("journal-*.jsonl"):
        path = folder / name
        if store.size(name) > (path.stat().st_size if path.exists() else -1):
            store.get_file(name, str(path))


@contextmanager
def _store(options: Generate, run: Run, mend: str = "") -> Iterator[DataFolder]:
    """The place of journals, markers and output, with all that may go wrong there told: each file system has errors of its own."""
    place = _place(options, run)
    try:
        yield get_datafolder(place)
    except Exception as error:
        mend = mend or "Check the path, the credentials, and that the package for it is installed (s3fs, gcsfs …)."
        raise InputError.of(f"cannot be read and written ({type(error).__name__})", place, mend) from error


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


def _at_once(kind: Executor, tasks: int, options: Generate) -> int:
    """How many of the tasks run at the same time, as far as the recipe says."""
    asks = {"slurm": options.slurm, "ray": options.ray}.get(kind)
    return min(tasks, asks.most if asks and asks.most else tasks)


def _options(recipe: DatasetRecipe) -> Generate:
    if not (options := options_of(recipe)).endpoints:
        raise InputError.of("names no server to ask", "generate.endpoints", "Recorded replies need no tasks.")
    return options
