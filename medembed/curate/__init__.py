"""Pairs → clean pairs. Generated and labelled pairs come in; those that pass the recipe's filters go out, split by note.

The filters run one after the other, each over all passages and then over all pairs. Whatever is rejected is kept with its reason, and
what each filter took is counted. Rows stream from table to table; memory holds ids and hashes of them. More is held by `duplicates: {near}`
(see `near`), and by the filters that ask a retriever: the texts that it is asked about, as bytes.
"""

import hashlib
import shutil
from collections import Counter
from functools import partial
from importlib import import_module
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
from pydantic import BaseModel

from medembed import models, tables
from medembed.curate import examples
from medembed.curate.gather import gather
from medembed.curate.sieve import Sieve, Stored
from medembed.curate.sifting import account, left, rejects_of, sift
from medembed.errors import RunError, all_told
from medembed.recipe import DatasetRecipe, Filter, Split
from medembed.rows import PAIRS
from medembed.run import Record, Run, replacing
from medembed.sources import source_hash


def inputs(recipe: DatasetRecipe, run: Run) -> tuple[Any, Any]:
    said = recipe.model_dump(mode="json", include={"pairs", "corpus", "split"})
    for source in said["pairs"] + said["corpus"]:
        source["source"] = source["source"].rsplit("/", 1)[-1]  # the hash below says which file; its folder may move
    said["curate"] = [{each.name: _said(each)} for each in recipe.curate]
    return said, {
        "generate": run.finished("generate").outputs if recipe.generate else {},
        "pairs": [source_hash(source) for source in recipe.pairs],
        "corpus": [source_hash(source) for source in recipe.corpus],
        "filters": [_reads(each) for each in recipe.curate],
    }


def work(recipe: DatasetRecipe, run: Run) -> Record:
    for each in recipe.curate:
        if each.round_trip and each.round_trip.reranker:
            models.load_reranker(each.round_trip.reranker)  # what is wrong with it is told before long work
    folder, cache = run.path("curate", "filters"), run.path("embeddings")
    names = ["sources", *(each.name for each in recipe.curate)]
    steps = [folder / f"{number}-{name}" for number, name in enumerate(names)]
    gather(recipe, run, steps[0])
    for number, each in enumerate(recipe.curate, start=1):
        sift(partial(_sieve, each), left(steps[:number], cache), steps[number])

    sources, *filters = map(account, steps)
    stored = left(steps, cache)
    counts = _write(stored, recipe.split, run)
    rejects = run.write_rejects("curate", chain.from_iterable(map(rejects_of, steps)))
    examples.write(run.path("curate", "examples.md"), zip(names, steps, strict=True))
    _remove(folder)
    if not counts["train"]:
        mend = "rejects.parquet there says what each filter took."
        raise RunError.of("no pair is left for training", str(run.path("curate")), mend)
    told: list[dict[str, Any]] = []
    facts: dict[str, Any] = {"unusable": sources["reasons"], "filters": told}
    for each, done in zip(recipe.curate, filters, strict=True):
        facts |= {each.name: own} if (own := done.pop("facts")) else {}
        told.append({"filter": each.name, "settings": _said(each), **done})
    return Record("curate", counts={"pairs in": sources["rows"], **counts}, rejects=rejects, facts=facts)


def check(recipe: DatasetRecipe) -> None:
    """Look whether all filters have what they need, before anything starts.

    Raises:
        InputError: with all that is missing.
    """
    all_told(partial(_check, each) for each in recipe.curate)


# ---- filters ---------------------------------------------------------------------------------------------------------


def _module(each: Filter) -> ModuleType:
    return import_module(f"medembed.curate.{each.name}")


def _sieve(each: Filter, stored: Stored) -> Sieve:
    made: Sieve = _module(each).sieve(getattr(each, each.name), stored)
    return made


def _reads(each: Filter) -> Any:
    """What a filter reads besides rows and models."""
    reads = getattr(_module(each), "reads", None)
    return reads(getattr(each, each.name)) if reads else None


def _check(each: Filter) -> None:
    check = getattr(_module(each), "check", None)
    if check:
        check(getattr(each, each.name))
    _reads(each)


def _said(each: Filter) -> Any:
    """A filter's settings, with its models as they were resolved: their folders may move."""
    setting = getattr(each, each.name)
    if not isinstance(setting, BaseModel):
        return setting
    said = setting.model_dump(mode="json", exclude_none=True)
    for name in ("retriever", "reranker"):
        if model := getattr(setting, name, None):
            resolved = models.resolve(model)
            said[name] |= {"model": resolved.name, "revision": resolved.revision}
    return said


# ---- what stays ------------------------------------------------------------------------------------------------------


def _write(stored: Stored, split: Split, run: Run) -> dict[str, int]:
    """Write corpus and pairs, split by note; how many there are. A split without pairs has no table."""
    with replacing(run.path("curate", "corpus.parquet")) as temporary:
        shutil.copyfile(stored.passages_path, temporary)
    counts = Counter(split_of(row["note_id"], split) for row in stored.pairs())
    for name in counts:
        with tables.writing(run.path("curate", f"pairs-{name}.parquet"), PAIRS) as add:
            for row in stored.pairs():
                if split_of(row["note_id"], split) == name:
                    add(row)
    passages = pq.read_metadata(stored.passages_path).num_rows
    return {"pairs": counts.total(), "train": counts["train"], "dev": counts["dev"], "passages": passages}


def split_of(note_id: str, split: Split) -> str:
    """`train` or `dev`: decided by the note's id alone, so that no other note can change it."""
    draw = int(hashlib.sha256(f"{split.seed}:{note_id}".encode()).hexdigest()[:8], 16) / 16**8
    return "dev" if draw < split.dev else "train"


def _remove(folder: Path) -> None:
    """Remove what the filters left in between, at once: half of it would look like a stage that can go on."""
    going = folder.with_name("going")
    shutil.rmtree(going, ignore_errors=True)
    folder.rename(going)
    shutil.rmtree(going)
