"""The run folder: where stages meet. Each stage owns one subfolder, writes its files atomically and, last of all, its record.

    runs/<recipe name>/
      recipe.json                        whose folder it is
      measured/                          scores by model and task (its embeddings/ may be deleted); superseded/ what other settings left
      journal.jsonl                      replies of the LLM (kept over all changes of the recipe)
      judge.jsonl                        likewise, of the judge of negatives
      embeddings/                        what models have made of blocks of texts: embeddings, scores of cross-encoders
      generate/{corpus,pairs,rejects}.parquet, record.json
      curate/{corpus,pairs-train,pairs-dev,rejects}.parquet, record.json
      export/{onnx/*.onnx,openvino/*.{xml,bin}}, record.json
      ...

A stage is done when its record stands and its fingerprint (what the recipe says of it, and the hashes of what it read) is today's.
So it can be killed at any point and started again: finished work is not redone, unfinished work goes on from what the stage keeps.
"""

import errno
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from medembed import __version__
from medembed.errors import InputError, RunError
from medembed.recipe import UNCHECKED_PATHS, DatasetRecipe, Recipe

if TYPE_CHECKING:
    import pyarrow as pa

    from medembed.rows import Reject

log = logging.getLogger(__name__)

OWNER = "recipe.json"  # whose folder it is: the recipe, with its overrides, as it was run last


@dataclass
class Record:
    """What a stage did: written as `record.json` when all else stands, quoted by manifests and cards."""

    stage: str
    fingerprint: str = ""
    said: Any = None  # what the recipe said of the stage
    read: Any = None  # the hashes of what it read
    counts: dict[str, int] = field(default_factory=dict)  # what went in and came out, in the order of the report
    rejects: dict[str, int] = field(default_factory=dict)  # reason → rows
    facts: dict[str, Any] = field(
        default_factory=dict
    )  # what else a card tells: models at their revisions, scores, settings
    outputs: dict[str, str] = field(default_factory=dict)  # file → sha256
    measured: dict[str, Any] = field(default_factory=dict)  # wall time, hardware: what differs from run to run


class Run:
    """The run folder of one recipe, locked while this process works in it."""

    def __init__(self, recipe: Recipe, folder: Path | None = None) -> None:
        self.recipe = recipe
        self.folder = folder or Path("runs") / recipe.name

    @contextmanager
    def locked(self) -> Iterator["Run"]:
        """Own the folder for the time of the block.

        Raises:
            InputError: it belongs to another recipe, holds other things, cannot be written, or another process works in it.
        """
        owner = self.folder / OWNER
        mine = self.recipe.model_dump(mode="json", exclude_none=True)
        try:
            if self.folder.exists() and not owner.exists() and any(p.name != ".lock" for p in self.folder.iterdir()):
                raise InputError.of(
                    "is not a run folder: it holds other files", str(self.folder), "Choose another `--run-dir`."
                )
            self.folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.folder / ".lock", timeout=0):
                theirs = read_owner(self.folder) if owner.exists() else mine
                if any(theirs[key] != mine[key] for key in ("kind", "name")):
                    what = f"belongs to another recipe: {theirs['kind']} {theirs['name']}"
                    raise InputError.of(what, str(self.folder), "Choose another `--run-dir`, or rename the recipe.")
                write_json(owner, mine)
                yield self
        except filelock.Timeout as error:
            raise InputError.of("another medembed process works in this run folder", str(self.folder)) from error
        except (NotADirectoryError, FileExistsError, PermissionError) as error:
            raise InputError.of(f"cannot be a run folder: {error.strerror}", str(self.folder)) from error

    def path(self, stage: str, name: str = "") -> Path:
        return self.folder / stage / name

    @classmethod
    def beside(cls, run: "Run", name: str) -> "Run":
        """The run folder of the recipe called `name`, which lies beside that of `run`; its recipe as it was run there.

        Raises:
            InputError: there is none.
        """
        folder = run.folder.parent / name
        if not (folder / OWNER).exists():
            raise InputError.of(f"{name} has not been run", str(folder), "Run `medembed run` with its recipe first.")
        theirs = read_owner(folder)
        if theirs["kind"] != "dataset":
            raise InputError.of("is the run folder of a model, not of a dataset", str(folder))
        return cls(DatasetRecipe.model_validate(theirs, context=UNCHECKED_PATHS), folder)

    # ---- tables ----

    def write(self, stage: str, name: str, table: "pa.Table") -> None:
        """Write a table as `<stage>/<name>.parquet`, whole or not at all; equal tables give equal bytes."""
        import pyarrow.parquet as pq

        with replacing(self.path(stage, f"{name}.parquet")) as temporary:
            pq.write_table(table, temporary, compression="zstd")

    def read(self, stage: str, name: str) -> "pa.Table":
        """The table that a stage wrote.

        Raises:
            InputError: the stage has not been run.
        """
        import pyarrow.parquet as pq

        self.finished(stage)
        return pq.read_table(self.path(stage, f"{name}.parquet"))

    def write_rejects(self, stage: str, rejects: "Iterable[Reject]") -> dict[str, int]:
        """Write `rejects.parquet`; the counts by reason, most frequent first."""
        from medembed import tables

        with tables.rejecting(self.path(stage, "rejects.parquet")) as (reject, counts):
            for row in rejects:
                reject(row)
        return by_frequency(counts)

    # ---- stages ----

    def record(self, stage: str) -> Record | None:
        try:
            return Record(**read_json(self.path(stage, "record.json")))
        except (InputError, TypeError):  # there is none, or one of another form: not done
            return None

    def finished(self, stage: str) -> Record:
        """The record of a stage that another one needs.

        Raises:
            InputError: the stage has not been done, or its outputs are gone.
        """
        if (record := self.record(stage)) and (record := self.done(stage, record.fingerprint)):
            return record
        raise InputError.of(
            f"`{stage}` has not been done here", str(self.folder), f"Run `medembed {stage}` with the recipe first."
        )

    def done(self, stage: str, fingerprint: str) -> Record | None:
        """The record of `stage`, if it was done just so and its outputs still stand as it wrote them."""
        record = self.record(stage)
        if record is None or record.fingerprint != fingerprint:
            return None
        paths = {self.path(stage, name): had for name, had in record.outputs.items()}
        return record if all(path.exists() and sha256(path) == had for path, had in paths.items()) else None

    def perform(
        self, stage: str, fingerprint: str, work: Callable[[], Record], said: Any = None, read: Any = None
    ) -> Record:
        """Do the `work` of a stage and write its record.

        What another recipe or other inputs left in the stage's folder is set aside first: never mixed in, never deleted.
        What the same recipe left unfinished is taken up.
        """
        started = self.path(stage, "started.json")
        is_others = started.exists() and read_json(started) != {"fingerprint": fingerprint}
        if is_others and any(path != started for path in started.parent.iterdir()):
            self._set_aside(stage)
        write_json(started, {"fingerprint": fingerprint})
        clock = time.monotonic()
        record = work()
        record.fingerprint, record.said, record.read = fingerprint, said, read
        record.measured["seconds"] = round(time.monotonic() - clock, 1)
        record.outputs = {
            p.relative_to(self.path(stage)).as_posix(): sha256(p) for p in sorted(self.path(stage).glob("*.parquet"))
        } | record.outputs
        write_json(self.path(stage, "record.json"), asdict(record))
        return record

    def _set_aside(self, stage: str) -> None:
        n = 1
        while (target := self.folder / "superseded" / f"{stage}-{n}").exists():
            n += 1
        target.parent.mkdir(exist_ok=True)
        log.info("%s: the recipe or its inputs have changed; what stood here is now in %s", stage, target)
        self.path(stage).rename(target)


def by_frequency(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def fingerprint(stage: str, said: Any, read: dict[str, Any]) -> str:
    """What makes a stage's work what it is: what the recipe says of it, and the hashes of what it reads."""
    text = json.dumps(
        {"stage": stage, "medembed": __version__, "said": said, "read": read}, sort_keys=True, default=str
    )
    return hashlib.sha256(text.encode()).hexdigest()


# ---- files -----------------------------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; after the block it is synced and takes its place, after an error it is gone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def no_space_is_told(doing: str, folder: Path) -> Iterator[None]:
    """Turn a full disk into an error that says where, at least in which folder, and that nothing is lost."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or folder
        mend = "Free some space, or choose a `--run-dir` elsewhere; the same command then goes on from here."
        raise RunError.of(f"no space left on the device while {doing}", str(where), mend) from error


def write_json(path: Path, value: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError.of("cannot be read as JSON", str(path), "Remove it and run again.") from error


def read_owner(folder: Path) -> dict[str, Any]:
    """The recipe whose run folder this is, as it was run last."""
    owner = read_json(folder / OWNER)
    if not isinstance(owner, dict) or not {"kind", "name"} <= owner.keys():
        raise InputError.of("does not say whose run folder this is", str(folder / OWNER), "Choose another `--run-dir`.")
    return owner


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
