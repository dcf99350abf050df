"""One model's work, several processes: the main one says what is to be done, each makes every n-th block, blocks meet on disk.

Blocks and batches are composed alike whoever makes them, so the result is the same for any number of processes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from tqdm import tqdm

from medembed.errors import RunError
from medembed.processes import launched, processes
from medembed.retrieval.embeddings import blocks
from medembed.run import replacing


class Job(Protocol):
    """What all processes are told of a model's work, pickled; its texts lie in the cache meanwhile."""

    @property
    def what(self) -> str: ...  # goes through the model: for the progress bar

    @property
    def cache(self) -> Path: ...

    @property
    def block(self) -> int: ...  # texts of a block

    def make(self, model: Any, texts: list[Any]) -> None: ...  # one block, unless it stands


_followed = False  # whether the other processes of the launch wait for what this one tells


@contextmanager
def leading() -> Iterator[None]:
    """For the time of the block the other processes of the launch `follow` this one, the main one; then they go."""
    global _followed  # noqa: PLW0603 (a fact of the process, as its rank is)
    _followed = launched() > 1
    try:
        yield
    finally:
        if _followed:
            _tell()
        _followed = False


def share(job: Job, model: Any, texts: pa.Array) -> None:
    """Do `job` for `texts` (each a text, or a struct of several) with all processes that `follow`, into blocks on disk.

    In one that has followed all is done.

    Raises:
        RunError: what any of them raised.
    """
    if launched() > 1 and not processes().is_main_process:
        return None
    if not _followed:
        return _fill(job, model, texts, 0, 1)
    with replacing(_texts(job)) as temporary, pa.OSFile(str(temporary), "wb") as file:
        table = pa.table({"text": texts})
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    _tell(job)
    faults = _gathered(_share_of(job, model, texts))
    _texts(job).unlink()
    if faults:
        raise faults[0]
    return None


def follow(model_of: Callable[[Any], Any]) -> None:
    """Do this process's share of whatever the main one has to do, until it says that it needs no more help.

    `model_of`: job → model; it is asked for every job.
    """
    while job := _tell():
        with pa.memory_map(str(_texts(job))) as file:
            texts = pa.ipc.open_file(file).read_all()["text"].combine_chunks()
            _gathered(_share_of(job, model_of(job), texts))


def _share_of(job: Job, model: Any, texts: pa.Array) -> RunError | None:
    try:
        _fill(job, model, texts, processes().process_index, processes().num_processes)
    except RunError as error:
        return error
    return None


def _fill(job: Job, model: Any, texts: pa.Array, index: int, of: int) -> None:
    share = blocks(texts, job.block)[index::of]
    total = sum(part.stop - part.start for part in share)
    bar = tqdm(total=total, desc=f"encode {job.what}", unit="text", disable=index > 0 or len(share) < 2, leave=False)
    with bar:
        for part in share:
            job.make(model, texts[part].to_pylist())
            bar.update(part.stop - part.start)


def _texts(job: Job) -> Path:
    return job.cache / f"{job.what}.arrow"


def _tell(job: Job | None = None) -> Job | None:
    """From the main process to all: the next job, or none."""
    from accelerate.utils import broadcast_object_list

    told: Job | None = broadcast_object_list([job])[0]
    return told


def _gathered(fault: RunError | None) -> list[RunError]:
    from accelerate.utils import gather_object

    return [each for each in gather_object([fault]) if each]
