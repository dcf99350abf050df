"""Folders with mteb's result files in; scores and facts of models out, and how many files could not be used, by reason.

Any folder will do that holds `results/<org>__<model>/<revision>/<Task>.json`: a run folder, what mteb wrote, a clone of the public
results repository. Whoever wrote the files is not trusted: what is not of the expected form is counted, never believed.
"""

import json
import logging
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medembed.errors import InputError
from medembed.leaderboard.tasks import TASKS

log = logging.getLogger(__name__)

EXTERNAL = "external"  # mteb's word, in place of a revision, for scores that a model's authors report
META = "model_meta.json"
PLACES = (
    "results",
    "evaluate/results",
    "*/evaluate/results",
)  # what `evaluate --model` or mteb wrote, run folder, runs

Scores = dict[str, dict[str, float]]  # split → subset → main score (0 to 1)


@dataclass(frozen=True)
class Result:
    """The scores of one revision of a model on one task; `file` is its place under `results/`, or a page that tells the score."""

    model: str
    revision: str
    task: str
    scores: Scores
    mteb_version: str = ""
    file: str = ""


class Facts(BaseModel):
    """What is declared of a model. `trained_on`: the leaderboard's tasks that its training data holds; None when it is not declared."""

    model_config = ConfigDict(frozen=True)

    parameters: int | None = None
    dimensions: int | None = None
    licence: str = ""
    released: str = ""
    base: str = ""
    revision: str = ""  # the one that mteb's registry names
    trained_on: tuple[str, ...] | None = None


class _Meta(BaseModel):
    """What we read of a `model_meta.json`."""

    name: str | None = None
    n_parameters: int | None = Field(None, gt=0)
    embed_dim: int | list[int] | None = None
    license: str | None = None
    release_date: str | None = None
    adapted_from: str | None = None
    training_datasets: dict[str, Any] | list[str] | None = None


@dataclass
class Found:
    """What some folders hold. `files`: of each result of ours, where it lies."""

    results: list[Result] = field(default_factory=list)
    facts: dict[str, Facts] = field(default_factory=dict)
    rejects: Counter[str] = field(default_factory=Counter)
    files: dict[str, Path] = field(default_factory=dict)


def read(folders: list[Path]) -> Found:
    """The results that lie in `folders`, in the order of their names.

    Raises:
        InputError: a folder is not there, or holds no results.
    """
    found = Found()
    for folder in folders:
        revisions = sorted(_revisions(folder))
        if not revisions:
            mend = "Name a folder that holds results/<org>__<model>/<revision>/<Task>.json."
            raise InputError.of("holds no results of mteb", str(folder), mend)
        for revision in revisions:
            _read_revision(revision, found)
    return found


def trained_on(tasks: set[str]) -> tuple[str, ...]:
    """The leaderboard's tasks among those of mteb."""
    return tuple(task for task in TASKS if task in tasks)


def _revisions(folder: Path) -> Iterator[Path]:
    """The folders `<org>__<model>/<revision>` under `folder`."""
    places = [folder] if folder.name == "results" else [path for place in PLACES for path in folder.glob(place)]
    for place in places:
        yield from (path for path in place.glob("*__*/*") if path.is_dir())


def _read_revision(folder: Path, found: Found) -> None:
    files = [path for task in TASKS if (path := folder / f"{task}.json").is_file()]
    if not files:
        return
    meta = _meta(folder / META, found.rejects)
    model = folder.parent.name.replace("__", "/", 1)
    if meta and meta.name and meta.name.replace("/", "__") == folder.parent.name:
        model = meta.name
    if meta and (model not in found.facts or folder.name != EXTERNAL):
        found.facts[model] = _facts(meta)
    for path in files:
        file = f"{folder.parent.name}/{folder.name}/{path.name}"
        try:
            scores, mteb_version = _scores(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = str(error) if isinstance(error, _Unusable) else "not a result file of mteb"
            found.rejects[reason] += 1
            log.info("leaderboard: %s: %s", file, reason)
            continue
        found.results.append(Result(model, folder.name, path.stem, scores, mteb_version, file))
        found.files.setdefault(file, path)


class _Unusable(ValueError):
    """A result file that cannot be used: the reason, as it is counted."""


def _meta(path: Path, rejects: Counter[str]) -> _Meta | None:
    try:
        return _Meta.model_validate_json(path.read_bytes())
    except OSError:
        rejects["no model_meta.json: the name is the folder's"] += 1
    except ValidationError:
        rejects["model_meta.json of another form: the name is the folder's"] += 1
    return None


def _facts(meta: _Meta) -> Facts:
    from medembed.evaluate.lineage import mteb_names  # heavy, as mteb is

    dimensions = max(meta.embed_dim, default=None) if isinstance(meta.embed_dim, list) else meta.embed_dim
    return Facts(
        parameters=meta.n_parameters,
        dimensions=dimensions,
        licence=meta.license or "",
        released=meta.release_date or "",
        base=meta.adapted_from or "",
        trained_on=None if meta.training_datasets is None else trained_on(mteb_names(meta.training_datasets)),
    )


def _scores(path: Path) -> tuple[Scores, str]:
    """The main scores of a result file, and the version of mteb that wrote it."""
    data = json.loads(path.read_bytes())
    if not isinstance(data, dict):
        raise TypeError
    if re.fullmatch("[0-9a-f]{16}", str(data.get("dataset_revision"))):  # as `tasks.beir` names what a folder holds
        raise _Unusable("measured on a local folder that has the name of a task")
    if "scores" not in data:
        data = _converted(path)
    scores: Scores = {}
    for split, parts in data["scores"].items():
        for part in parts:
            score = part["main_score"]
            if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
                raise _Unusable("a score that is not a number")
            if not 0 <= score <= 1:
                raise _Unusable("a score that is not between 0 and 1")
            scores.setdefault(split, {})[str(part["hf_subset"])] = float(score)
    if not any(part in scores.get(split, {}) for split, part in TASKS[path.stem].parts):
        raise _Unusable("no score for any part of the task")
    return scores, str(data.get("mteb_version") or "")


def _converted(path: Path) -> dict[str, Any]:
    """A result of an mteb before 1.11, which had another form, as mteb itself reads it."""
    from mteb.results import TaskResult

    try:
        return TaskResult.from_disk(path).to_dict()  # type: ignore[no-any-return]
    except Exception as error:  # of any kind: it takes apart what it has not checked
        raise _Unusable("a result of an old mteb that cannot be converted") from error
