"""The published figures that come along: `published.json.gz`, and what renews it from a checkout of mteb's results repository.

Facts of models (size, licence, what they were trained on) are asked of mteb's registry here and kept, because its import takes
seconds. `reported.json` holds the few figures that stand in no results repository, kept by hand with their source.
"""

import gzip
import json
import logging
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from medembed.errors import InputError
from medembed.leaderboard.results import Facts, Found, Result, read, trained_on
from medembed.run import read_json, replacing

log = logging.getLogger(__name__)

PUBLISHED = Path(__file__).parent / "published.json.gz"
REPORTED = Path(__file__).parent / "reported.json"
REPOSITORY = "https://github.com/embeddings-benchmark/results"

# Where mteb's registry is wrong: it says bge-base of a model of 33 M parameters, and 32,768 dimensions of one with Mixtral's 4,096.
CORRECTIONS: dict[str, dict[str, Any]] = {
    "abhinand/MedEmbed-small-v0.1": {"base": "BAAI/bge-small-en-v1.5"},
    "GritLM/GritLM-8x7B": {"dimensions": 4096},
}


@dataclass(frozen=True)
class Source:
    """Where figures come from."""

    name: str
    url: str
    commit: str
    date: str
    licence: str


@dataclass(frozen=True)
class Snapshot:
    """Published results, what is declared of their models, and their sources."""

    sources: list[Source]
    facts: dict[str, Facts]
    results: list[Result]

    def link(self, result: Result) -> str:
        """The page of the very file that the figures were read from."""
        source = self.sources[0]
        if result.file.startswith("https://"):
            return result.file
        return f"{source.url}/blob/{source.commit}/results/{quote(result.file)}"


_FORM = TypeAdapter(Snapshot)


def load(path: Path = PUBLISHED) -> Snapshot:
    """The snapshot, or what a clone of the results repository holds, with what is reported elsewhere.

    Raises:
        InputError: it cannot be read.
    """
    try:
        published = _clone(path)[0] if path.is_dir() else _FORM.validate_json(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValidationError) as error:
        mend = "`medembed leaderboard renew CHECKOUT` makes one."
        raise InputError.of("is no snapshot of published figures", str(path), mend) from error
    reported = _FORM.validate_python(read_json(REPORTED))
    return Snapshot(
        [*published.sources, *reported.sources],
        reported.facts | published.facts,
        [*published.results, *reported.results],
    )


def renew(checkout: Path, path: Path = PUBLISHED) -> tuple[Snapshot, Counter[str]]:
    """Read a checkout of the results repository, ask mteb's registry about its models, and write the snapshot.

    Raises:
        InputError: it is no git checkout, or holds no results.
    """
    snapshot, rejects = _clone(checkout)
    text = json.dumps(_FORM.dump_python(snapshot, mode="json", exclude_defaults=True), ensure_ascii=False, indent=0)
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0))
    return snapshot, rejects


def _clone(folder: Path) -> tuple[Snapshot, Counter[str]]:
    commit, date = _commit(folder)
    found = read([folder])
    source = Source("results repository of mteb", REPOSITORY, commit, date, "CC0-1.0")
    results = sorted(found.results, key=lambda it: (it.model, it.revision, it.task))
    return Snapshot([source], _facts(found), results), found.rejects


def _commit(checkout: Path) -> tuple[str, str]:
    """The commit that is checked out, and its date."""
    command = ["git", "-C", str(checkout), "log", "-1", "--format=%H %cs"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        mend = f"git clone {REPOSITORY}"
        raise InputError.of("is no checkout of a git repository", str(checkout), mend) from error
    return told[0], told[1]


def _facts(found: Found) -> dict[str, Facts]:
    """What mteb's registry says of the models; what their result folders say, where it does not know them."""
    import mteb

    registry: dict[str, Any] = {meta.name: meta for meta in mteb.get_model_metas()}
    facts = {}
    for model in sorted({result.model for result in found.results}):
        declared = found.facts.get(model, Facts())
        if meta := registry.get(model):
            declared = declared.model_copy(update=_registered(meta))
        facts[model] = declared.model_copy(update=CORRECTIONS.get(model, {}))
    return facts


def _registered(meta: Any) -> dict[str, Any]:
    """What a `ModelMeta` declares; `get_training_datasets` adds what its base was trained on, and tasks of the same data."""
    datasets = meta.get_training_datasets()
    dimensions = max(meta.embed_dim) if isinstance(meta.embed_dim, list) else meta.embed_dim
    declared = {
        "parameters": meta.n_parameters,
        "dimensions": dimensions,
        "licence": meta.license,
        "released": meta.release_date,
        "base": meta.adapted_from,
        "revision": meta.revision,
    }
    known = {key: value for key, value in declared.items() if value}
    return known | {"trained_on": None if datasets is None else trained_on(datasets)}
