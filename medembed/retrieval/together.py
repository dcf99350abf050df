"""One encoding, several processes: the main one says what is to be encoded, each makes every n-th block, blocks meet on disk.

Blocks and batches are composed alike whoever makes them, so the result is the same for any number of processes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
from tqdm import tqdm

from medembed.errors import RunError
from medembed.processes import launched, processes
from medembed.retrieval.embeddings import Side, blocks, embedded
from medembed.run import replacing

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class Job(NamedTuple):
    """What all processes are told of an encoding; its texts lie in the cache meanwhile."""

    revision: str
    side: Side
    batch_size: int
    cache: Path

    @property
    def texts(self) -> Path:
        return self.cache / f"{self.side}.arrow"


def share(job: Job, model: "SentenceTransformer", distinct: pa.Array) -> None:
    """Encode the `distinct` texts with all processes that `follow`, into blocks on disk. In one that has followed all is done.

    Raises:
        RunError: what any of them raised.
    """
    if launched() == 1:
        return _fill(job, model, distinct, 0, 1)
    if not processes().is_main_process:
        return None
    with replacing(job.texts) as temporary, pa.OSFile(str(temporary), "wb") as file:
        table = pa.table({"text": distinct})
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    _tell(job)
    faults = _gathered(_share_of(job, model, distinct))
    job.texts.unlink()
    if faults:
        raise faults[0]
    return None


def follow(load: "Callable[[], SentenceTransformer]") -> None:
    """Encode this process's share of whatever the main one has to encode, until it says that it needs no more help."""
    model = None
    while job := _tell():
        with pa.memory_map(str(job.texts)) as file:
            distinct = pa.ipc.open_file(file).read_all()["text"].combine_chunks()
            model = model or load()
            _gathered(_share_of(job, model, distinct))


def dismiss() -> None:
    """Let the other processes go."""
    if launched() > 1:
        _tell()


def _share_of(job: Job, model: "SentenceTransformer", distinct: pa.Array) -> RunError | None:
    try:
        _fill(job, model, distinct, processes().process_index, processes().num_processes)
    except RunError as error:
        return error
    return None


def _fill(job: Job, model: "SentenceTransformer", distinct: pa.Array, index: int, of: int) -> None:
    share = blocks(distinct)[index::of]
    for part in tqdm(share, desc=f"encode {job.side}", unit="block", disable=index > 0 or len(share) < 2):
        embedded(model, job.revision, distinct[part].to_pylist(), job.side, job.cache, job.batch_size)


def _tell(job: Job | None = None) -> Job | None:
    """From the main process to all: the next job, or none."""
    from accelerate.utils import broadcast_object_list

    told: Job | None = broadcast_object_list([job])[0]
    return told


def _gathered(fault: RunError | None) -> list[RunError]:
    from accelerate.utils import gather_object

    return [each for each in gather_object([fault]) if each]
