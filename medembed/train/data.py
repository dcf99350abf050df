"""The rows that a model is trained on: `recipe.data` in; query, positive, negatives of each row out, and where they came from.

Three places, one layout: the run folder of a dataset recipe, a local folder laid out as a published dataset, or such a repository
on the Hub, which is downloaded at a commit. Rows that cannot teach (an empty text, a text twice in a row, no teacher scores where a
loss needs them) are rejected; a row that has fewer negatives than others has empty texts for them, which no loss looks at.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset
from numpy.typing import NDArray

from medembed.errors import InputError
from medembed.provenance import PROVENANCE, manifest
from medembed.recipe import Data, is_local
from medembed.recipe_file import load as load_recipe
from medembed.rows import Reject
from medembed.run import Run, read_json, sha256
from medembed.train.batches import Ids

if TYPE_CHECKING:
    from medembed.train.guide import Guided

Flags = NDArray[np.bool_]
Floats = NDArray[np.float32]

LABEL = "label"  # the column that the trainer hands to the loss: a row's number, for whatever else is known of the row
MUST_HAVE = 3  # of a row's texts: query, positive and one negative, where negatives are used
MADE_BY = {"triplets": ("mine", "triplets-train"), "pairs": ("curate", "pairs-train")}  # config → stage and table


@dataclass(frozen=True)
class Found:
    """A dataset at an exact version: a commit of the Hub, or a hash of its files."""

    name: str
    revision: str
    files: list[Path]
    provenance: dict[str, Any] | None  # its manifest, where it has one


@dataclass
class Rows:
    """Training rows; which of their texts are equal, and missing; what teacher and guide think of them."""

    dataset: Dataset  # columns query, positive, negative_1 … negative_n, in this order, and the row's number as label
    texts: Ids  # (rows, 2 + negatives): equal numbers for equal texts
    missing: Flags  # (rows, negatives)
    teacher: Floats | None  # (rows, 1 + negatives): its logits for positive and negatives, NaN for a missing one
    rejects: list[Reject]
    offered: int  # rows that the dataset has, before rejects and `limit`
    numbers: Ids  # of each row, its place in the dataset, from 1
    passage_ids: pa.ChunkedArray | None
    guide: "Guided | None" = None

    @property
    def columns(self) -> list[str]:
        """Those of texts."""
        return [name for name in self.dataset.column_names if name != LABEL]

    def named(self, rows: list[int]) -> list[str]:
        """What errors call these rows: never by their texts."""
        ids = self.passage_ids.take(rows).to_pylist() if self.passage_ids else [None] * len(rows)
        return [f"row {self.numbers[row]}" + (f" ({of})" if of else "") for row, of in zip(rows, ids, strict=True)]


def find(data: Data, run: Run) -> Found:
    """Where the training rows are, and their exact version. Downloads what is on the Hub.

    Raises:
        InputError: there is no such dataset, revision or config, or the dataset's recipe has not been run.
    """
    if not is_local(data.dataset):
        return _on_the_hub(data)
    if data.dataset.endswith(".yaml"):
        return _of_recipe(data, run)
    folder = Path(data.dataset)
    files = _files(folder, data)
    return Found(folder.name, _hash(files), files, _provenance(folder))


def read(found: Found, data: Data, negatives: int | None, seed: int, *, taught: bool = False) -> Rows:
    """The rows of a dataset with their first `negatives` hard negatives (all when none); where they are `taught`, with teacher scores.

    Raises:
        InputError: unreadable files, columns that do not fit, no teacher scores or negatives where they are needed, no row left.
    """
    table = _table(found, data)
    columns = _columns(table.schema, found, data, negatives)
    texts = _text_ids(table, columns)
    missing = texts[:, 2:] < 0
    reasons = {"empty text": _blank(table, columns), "a text twice in the row": _repeated(texts)}
    teacher = _teacher_scores(table, missing, found) if taught else None
    if teacher is not None:
        reasons["no teacher scores"] = (np.isnan(teacher[:, 1:]) > missing).any(axis=1) | np.isnan(teacher[:, 0])
    rejects = [
        Reject(reason, f"{found.name}:{row + 1}", "")
        for reason, guilty in reasons.items()
        for row in np.flatnonzero(guilty)
    ]
    kept = np.flatnonzero(~np.logical_or.reduce(list(reasons.values())))
    if not len(kept):
        raise InputError.of(f"of {len(table)} rows none can be trained on", found.name)
    if data.limit:
        kept = np.sort(np.random.default_rng(seed).permutation(kept)[: data.limit])
    return Rows(
        Dataset(_filled(table, columns).take(kept).append_column(LABEL, pa.array(np.arange(len(kept))))),
        np.where(texts < 0, texts.max() + 1, texts)[kept],  # what is missing is one text: the empty one
        missing[kept],
        None if teacher is None else teacher[kept],
        rejects,
        len(table),
        kept + 1,
        table["passage_id"].take(kept) if "passage_id" in table.column_names else None,
    )


def _of_recipe(data: Data, run: Run) -> Found:
    """The dataset that a recipe has made: its run folder stands beside this one, with the recipe as it was run there."""
    theirs = Run.beside(run, load_recipe(data.dataset).name)
    stage, table = MADE_BY[data.config]
    outputs = theirs.finished(stage).outputs
    made = manifest(theirs.recipe, theirs)
    del made["measured"]  # what differs from run to run is no part of what this dataset is
    files = [theirs.path(stage, f"{table}.parquet")]
    return Found(theirs.recipe.name, outputs[f"{table}.parquet"][:40], files, made)


def _on_the_hub(data: Data) -> Found:
    import httpx2
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    where = f"{data.dataset}@{data.revision or 'main'}"
    try:
        wanted = [f"{data.config}/{split}-*.parquet" for split in ("train", "dev")] + [PROVENANCE]
        folder = Path(
            snapshot_download(data.dataset, repo_type="dataset", revision=data.revision, allow_patterns=wanted)
        )
    except HfHubHTTPError as error:
        mend = "Check the name and the revision; for a gated or private dataset set HF_TOKEN."
        raise InputError.of(f"the Hub answers {error.response.status_code}", where, mend) from error
    except LocalEntryNotFoundError as error:
        mend = "Check HF_ENDPOINT and the network; offline, only what was downloaded before can be used."
        raise InputError.of("the Hub cannot be reached, and the dataset is not in the cache", where, mend) from error
    except (OSError, httpx2.HTTPError) as error:
        raise InputError.of(
            f"cannot be downloaded: {type(error).__name__}", where, "Run the same command again."
        ) from error
    return Found(
        data.dataset, folder.name, _files(folder, data), _provenance(folder)
    )  # a snapshot is named by its commit


def _files(folder: Path, data: Data) -> list[Path]:
    if not (files := sorted(folder.glob(f"{data.config}/train-*.parquet"))):
        mend = f"A dataset holds {data.config}/train-*.parquet; `data.config` says which of its tables is used."
        raise InputError.of(f"has no training rows under {data.config}/", data.dataset, mend)
    return files


def _hash(files: list[Path]) -> str:
    return hashlib.sha256("".join(sha256(file) for file in files).encode()).hexdigest()[:40]


def _provenance(folder: Path) -> dict[str, Any] | None:
    path = folder / PROVENANCE
    return read_json(path) if path.exists() else None


def _table(found: Found, data: Data) -> pa.Table:
    try:
        return pa.concat_tables([pq.read_table(file) for file in found.files])
    except (pa.ArrowException, OSError) as error:
        raise InputError.of(f"cannot be read as Parquet of one schema: {type(error).__name__}", data.dataset) from error


def _columns(schema: pa.Schema, found: Found, data: Data, negatives: int | None) -> list[str]:
    offered = 0
    while f"negative_{offered + 1}" in schema.names:
        offered += 1
    if negatives is not None and negatives > offered:
        what = f"a row of {found.name} has {offered} hard negatives, the recipe uses {negatives}"
        raise InputError.of(
            what, "train.negatives", "Lower it, or mine more: `mine.negatives` of the dataset's recipe."
        )
    used = offered if negatives is None else negatives
    columns = ["query", "positive", *(f"negative_{i}" for i in range(1, used + 1))]
    if missing := [name for name in columns if name not in schema.names]:
        raise InputError.of(f"has no column {', '.join(missing)} in {data.config}", found.name)
    if other := [
        name
        for name in columns
        if not (pa.types.is_string(schema.field(name).type) or pa.types.is_large_string(schema.field(name).type))
    ]:
        raise InputError.of(f"column {', '.join(other)} is not text", found.name)
    return columns


def _text_ids(table: pa.Table, columns: list[str]) -> Ids:
    """One number a text, the same for equal texts, negative where there is none: (rows, columns)."""
    chunks = [chunk for name in columns for chunk in table[name].cast(pa.large_string()).chunks]
    encoded = pa.chunked_array(chunks, pa.large_string()).dictionary_encode()
    ids = [np.asarray(chunk.indices.fill_null(-1), dtype=np.int64) for chunk in encoded.chunks]
    return np.concatenate([np.empty(0, np.int64), *ids]).reshape(len(columns), -1).T


def _blank(table: pa.Table, columns: list[str]) -> Any:
    """Which rows have a text that is empty, or none where they must have one; only negatives but the first may be missing."""
    blank = np.zeros(len(table), dtype=bool)
    for at, name in enumerate(columns):
        texts = table[name].fill_null("") if at < MUST_HAVE else table[name]
        blank |= np.asarray(pc.equal(pc.utf8_trim_whitespace(texts), "").fill_null(False), dtype=bool)
    return blank


def _repeated(texts: Ids) -> Any:
    texts = np.sort(texts, axis=1)
    return ((texts[:, 1:] == texts[:, :-1]) & (texts[:, 1:] >= 0)).any(axis=1)


def _teacher_scores(table: pa.Table, missing: Flags, found: Found) -> Floats:
    """The teacher's logits for each row's positive and negatives, NaN where there is none that is finite: (rows, 1 + negatives).

    Raises:
        InputError: there are no negatives, or no such columns of numbers, or nothing in them.
    """
    negatives = missing.shape[1]
    if not negatives:
        mend = "Raise `train.negatives`, or leave `distil` and `margin_mse` out of `train.losses`."
        raise InputError.of("rows without negatives have nothing to compare a teacher's scores with", found.name, mend)
    try:
        positive = table["positive_teacher_score"].cast(pa.float32())
        lists = table["negative_teacher_scores"].cast(pa.list_(pa.float32()))
    except (KeyError, pa.ArrowException):  # no such columns, or none of numbers
        positive = pa.chunked_array([pa.nulls(len(table), pa.float32())])
        lists = pa.chunked_array([pa.nulls(len(table), pa.list_(pa.float32()))])
    padded = pc.list_slice(pc.coalesce(lists, pa.scalar([], lists.type)), 0, negatives, return_fixed_size_list=True)
    each = [np.asarray(chunk.flatten(), np.float32).reshape(-1, negatives) for chunk in padded.chunks]
    scores = np.column_stack([np.asarray(positive, np.float32), np.concatenate(each)])
    scores[~np.isfinite(scores)] = np.nan
    scores[:, 1:][missing] = np.nan
    if np.isnan(scores[:, :2]).any(axis=1).all():
        what = "no row has a teacher's scores, which `distil` and `margin_mse` learn from"
        mend = "Mine with a teacher (`mine.teacher` of the dataset's recipe), or leave both out of `train.losses`."
        raise InputError.of(what, found.name, mend)
    return scores


def _filled(table: pa.Table, columns: list[str]) -> pa.Table:
    """The texts, empty where a row lacks a negative: a batch needs as many of each row."""
    return pa.table({name: table[name].fill_null("") for name in columns})
