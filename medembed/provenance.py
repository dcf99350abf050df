"""The manifest that every artifact carries: a recipe and its run folder in, the content of `provenance.json` out.

Manifests chain: a model's names, under `upstream`, the one of the dataset that it was trained on. What differs from run to run
(wall time, hardware) stands under `measured` alone, and nothing tells of the machine's folders or of a text of the data.
"""

import hashlib
import json
import platform
import re
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from medembed import __version__
from medembed.commit import commit
from medembed.licences import OTHER, UNKNOWN, attributions, identify, is_open, of_all
from medembed.recipe import DatasetRecipe, ModelRecipe, Recipe, is_local
from medembed.run import Run
from medembed.stages import stages_of
from medembed.tasks import task_name

FORMAT = 1
PROVENANCE = "provenance.json"
MODEL_LICENCE = "apache-2.0"  # of the weights, unless the recipe says otherwise
ORIGINS = ("pairs", "corpus")  # the tables of a dataset whose sources are told
LIBRARIES = (
    "accelerate",
    "datasets",
    "huggingface_hub",
    "mteb",
    "nncf",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "presidio-analyzer",
    "py3langid",
    "pyarrow",
    "rensa",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
)


def manifest(recipe: Recipe, run: Run) -> dict[str, Any]:
    """What made the artifact of `recipe`, as far as the stages in `run` have been done; JSON values only."""
    records = {stage: record for stage in stages_of(recipe)[:-1] if (record := run.record(stage))}
    said = said_by(recipe)
    origins = _origins(run) if isinstance(recipe, DatasetRecipe) else {}
    dataset = records["train"].facts.get("dataset") or {} if "train" in records else {}
    upstream = upstream_of(dataset.get("provenance"))
    declared = _declared(recipe, dataset, upstream) if isinstance(recipe, ModelRecipe) else {}
    return {
        "format": FORMAT,
        "kind": recipe.kind,
        "name": recipe.name,
        "recipe": said,
        "recipe_sha256": hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest(),
        "medembed": {"version": __version__, "commit": commit()},
        "python": platform.python_version(),
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
        "license": _said(recipe) or (of_all(licences_of(origins)) if origins else _of_model(upstream)),
        "origins": origins,
        "attributions": attributions(origins or (upstream or {}).get("origins", {})),
        **declared,
        "stages": {
            stage: {
                "counts": record.counts,
                "rejects": record.rejects,
                "facts": without_paths({key: _unchained(value) for key, value in record.facts.items()}),
                "outputs": record.outputs,
            }
            for stage, record in records.items()
        },
        "upstream": upstream,
        "measured": {stage: without_paths(record.measured) for stage, record in records.items()},
    }


def without_paths(value: Any) -> Any:
    """`value` with every path of this machine, alone or within a text, reduced to its last name."""
    if isinstance(value, dict):
        return {without_paths(key): without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(item) for item in value]
    if not isinstance(value, str):
        return value
    if is_local(value) and "\n" not in value:
        return Path(value).name
    return re.sub(r"(?<![\w/:.])/(?:[\w.@+-]+/)+([\w.@+-]*)", r"\1", value)


def licences_of(origins: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The licences in a manifest's `origins`, each once, that of most rows first."""
    return list(dict.fromkeys(row.get("license") or UNKNOWN for rows in origins.values() for row in rows))


def _declared(recipe: ModelRecipe, dataset: dict[str, Any], upstream: dict[str, Any] | None) -> dict[str, Any]:
    """What a model says of itself for a fair comparison: what it was trained on, and whether that holds texts of its tasks."""
    name = str(dataset.get("name") or recipe.data.dataset)
    tasks = [task_name(task) for task in recipe.evaluate.tasks]
    return {
        "training_datasets": without_paths(training_datasets(name, upstream)),
        "decontamination": decontamination(tasks, upstream),
    }


def training_datasets(dataset: str, upstream: dict[str, Any] | None) -> list[str]:
    """The names of what a model was trained on: its dataset and the sources of that. What its base was trained on is not known here."""
    return list(dict.fromkeys([dataset, *(source for table in ORIGINS for source in _sources(upstream, table))]))


def decontamination(tasks: list[str], upstream: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Of each task whether the training data was decontaminated against it, and how many rows that removed.

    `state` is `decontaminated`, or `not checked`, also where no manifest of the dataset tells.
    """
    facts = within(upstream, "stages", "curate", "facts", "decontaminate")
    found: dict[str, dict[str, Any]] = {}
    for task in tasks:
        if not (of_task := within(facts, "tasks", task)):
            found[task] = {"state": "not checked"}
            continue
        settings = {"revision": of_task.get("revision")} | {
            key: facts.get(key) for key in ("ngram", "boilerplate", "near")
        }
        removed = {kind: _sum(within(of_task, "removed", kind)) for kind in within(of_task, "removed")}
        found[task] = {"state": "decontaminated", **settings, "removed": removed}
    return found


def within(value: Any, *path: str) -> dict[str, Any]:
    """The object at `path` in a manifest that may be anybody's; empty where there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _sources(manifest: Any, table: str) -> list[str]:
    """The sources that a manifest's `origins` name for a table."""
    rows = within(manifest, "origins").get(table)
    told = [row.get("source") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [source for source in told if isinstance(source, str)]


def _sum(counts: dict[str, Any]) -> int:
    return sum(count for count in counts.values() if isinstance(count, int))


def learned_from(upstream: Any, dataset: Any) -> dict[str, list[dict[str, Any]]]:
    """The origins of what a model has learned from: those that the dataset's manifest tells, or the dataset, whose licence nobody tells."""
    if found := within(upstream, "origins"):
        return found
    return {"pairs": [{"source": str(dataset), "license": identify(None, str(dataset))}]}


def _said(recipe: Recipe) -> str | None:
    """`publish.license` as the Hub spells it, where it is a licence that we know."""
    said = recipe.publish.license
    return said if said is None or (known := identify(said)) == UNKNOWN else known


def _of_model(upstream: dict[str, Any] | None) -> str:
    """The licence of a model: ours, if all data that it has learned from is known, and open."""
    return MODEL_LICENCE if upstream and all(map(is_open, licences_of(upstream["origins"]))) else OTHER


def said_by(recipe: Recipe) -> dict[str, Any]:
    """The recipe's values, without what tells of a network or a machine and shapes nothing: endpoints, folders, release, last query."""
    said: dict[str, Any] = recipe.model_dump(mode="json", exclude_none=True)
    said.get("generate", {}).pop("endpoints", None)
    for peer in said.get("evaluate", {}).get("compare", []):
        peer.pop("endpoint", None)
    for key in ("ask", "tag", "collection", "candidate"):
        said["publish"].pop(key, None)
    if folder := said["publish"].get("folder"):
        said["publish"]["folder"] = Path(folder).name
    told: dict[str, Any] = without_paths(said)
    return told


def _unchained(value: Any) -> Any:
    """A fact without the dataset's manifest in it: that stands once, under `upstream`."""
    return {k: v for k, v in value.items() if k != "provenance"} if isinstance(value, dict) else value


def upstream_of(theirs: Any) -> dict[str, Any] | None:
    """The manifest of a dataset that may come from anywhere: taken if it has this form."""
    is_ours = isinstance(theirs, dict) and theirs.get("format") == FORMAT and _are_origins(theirs.get("origins"))
    return without_paths(theirs) if is_ours else None


def _are_origins(value: Any) -> bool:
    """Whether this is what `_origins` gives: lists of rows by table, all of whose values are plain."""
    tables = list(value.values()) if isinstance(value, dict) else [None]
    rows = [row for table in tables if isinstance(table, list) for row in table]
    return all(isinstance(table, list) for table in tables) and all(
        isinstance(row, dict) and all(isinstance(each, str | int | None) for each in row.values()) for row in rows
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _origins(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Where the rows of a dataset come from: how many of each source and licence, and of pairs also each generator."""
    extra = {"pairs": ["generator", "prompt_version"], "corpus": []}
    return {table: _counted(run, table, ["source", "license", *more]) for table, more in extra.items()}


def _counted(run: Run, table: str, keys: list[str]) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = [pq.read_table(path, columns=keys) for path in sorted(run.path("curate").glob(f"{table}*.parquet"))]
    if not parts:
        return []
    counts: Counter[tuple[str | None, ...]] = Counter()
    for row in pa.concat_tables(parts).group_by(keys).aggregate([([], "count_all")]).to_pylist():
        # What a column of the user's holds is not ours: a licence is recognised or unknown, a name is short.
        told = tuple(identify(row[key], row["source"]) if key == "license" else _short(row[key]) for key in keys)
        counts[told] += row["count_all"]
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    return [dict(zip(keys, told, strict=True)) | {"rows": rows} for told, rows in ordered]


def _short(text: str | None) -> str | None:
    return without_paths(" ".join(text.split())[:120]) if text else None
