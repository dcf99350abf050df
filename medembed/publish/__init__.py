"""A finished run → an artifact with a card, on the Hub or in a local folder with the layout of one.

The artifact is first a list (path in the repository → file or text), so that a card that cannot be written or data that must not
be published costs nothing; then a folder; then delivered; then loaded from where it was delivered, and compared.
"""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from medembed import models, resources
from medembed.errors import InputError, RunError
from medembed.provenance import manifest
from medembed.publish import cards, gates, hub, push
from medembed.recipe import DatasetRecipe, ModelRecipe, Recipe
from medembed.rows import passage_input
from medembed.run import Record, Run, sha256
from medembed.stages import stages_of

SENTENCES = (
    "chest pain that spreads to the left arm",
    "How is iron deficiency anaemia treated in pregnancy?",
    "Metformin is the first-line drug for type 2 diabetes.",
    "no fever, no cough, lungs clear on both sides",
)
TOLERANCE = 1e-5


def inputs(recipe: Recipe, run: Run) -> tuple[Any, Any]:
    records = {stage: run.finished(stage) for stage in stages_of(recipe)[:-1]}
    for stage, record in records.items():
        _done_as_it_is_told(stage, record, recipe, run)
    if isinstance(recipe, ModelRecipe):
        _evaluated_this_model(records["evaluate"], run)
    said = {"name": recipe.name, "publish": recipe.publish.model_dump(mode="json")}
    templates = sorted(resources.folder(f"{recipe.kind}_cards").glob("*.jinja"))
    read = {stage: [record.fingerprint, record.outputs] for stage, record in records.items()}
    return said, read | {"cards": [sha256(path) for path in templates], "hub": os.environ.get("HF_ENDPOINT")}


def work(recipe: Recipe, run: Run) -> Record:
    artifact = contents(recipe, run)
    folder = run.path("publish", "repo")
    push.write(artifact, folder)
    loaded_from, revision = _deliver(recipe, folder)
    record = Record("publish", counts={"files": len(artifact)})
    record.facts["where"] = f"{loaded_from}@{revision}" if revision else recipe.publish.folder
    record.facts["files"] = {path: file.stat().st_size for path, file in push.files_of(folder).items()}
    if isinstance(recipe, ModelRecipe):
        record.facts |= _prove_model(recipe, run, loaded_from, revision)
    else:
        record.facts |= _prove_dataset(recipe, run, loaded_from, revision)
    record.outputs = {f"repo/{path}": sha256(folder / path) for path in artifact if path != push.PROVENANCE}
    if revision is None:  # so that the stage is not done once somebody has removed the published folder
        record.outputs |= {str(Path(loaded_from, path)): sha256(folder / path) for path in artifact}
    return record


def plan(recipe: Recipe, run: Run) -> list[tuple[str, int, str]]:
    """What publishing would do: (path in the repository, bytes, add | replace | keep | remove). Writes nothing."""
    inputs(recipe, run)
    artifact = contents(recipe, run)
    sizes = {path: c.stat().st_size if isinstance(c, Path) else len(c) for path, c in artifact.items()}
    return [(path, sizes.get(path, 0), action) for path, action in push.changes(artifact, look(recipe)).items()]


def look(recipe: Recipe) -> dict[str, push.Stored]:
    """The files that stand at the place of publication. Writes nothing.

    Raises:
        InputError: this artifact cannot go there: no or a wrong token, or it holds something else.
        RunError: the Hub cannot be reached.
    """
    return hub.on_hub(_place(recipe)) if recipe.publish.repo else push.in_folder(_target(recipe), _mine(recipe))


# ---- the artifact ----------------------------------------------------------------------------------------------------


def contents(recipe: Recipe, run: Run) -> dict[str, Path | bytes]:
    """Everything that is published: path in the repository → file or text.

    Raises:
        InputError: data that may not be shared with everybody would go to a public repository.
    """
    made_of = manifest(recipe, run)
    if isinstance(recipe, ModelRecipe):
        gates.may_be_public(recipe, (made_of["upstream"] or {}).get("origins", {}))
        card = cards.model_card(made_of)
        files = _model_files(run)
    else:
        gates.may_be_public(recipe, made_of["origins"])
        gates.holds_no_identifiers(recipe, made_of["stages"]["curate"]["facts"].get("phi"))
        tables = _tables(recipe, run)
        pictures = _pictures(run)
        described = {config: _described(splits) for config, splits in tables.items()}
        card = cards.dataset_card(made_of, described, next(iter(pictures), None))
        files = pictures | {
            f"{config}/{split}-00000-of-00001.parquet": path
            for config, splits in tables.items()
            for split, path in splits.items()
        }
    made_of["files"] = sorted(["README.md", push.PROVENANCE, *files])
    told = json.dumps(made_of, indent=2, ensure_ascii=False) + "\n"
    return {"README.md": card.encode(), push.PROVENANCE: told.encode(), **files}


def _model_files(run: Run) -> dict[str, Path | bytes]:
    """The model's files and mteb's results, without the cards that a trainer generates: those quote training texts."""
    model, results = run.path("train", "model"), run.path("evaluate", "results")
    files = {
        path: file
        for path, file in push.files_of(model).items()
        if file.name != "README.md" and not any(part.startswith((".", "checkpoint-")) for part in Path(path).parts)
    }
    return {**files, **{f"results/{path}": file for path, file in push.files_of(results).items()}}


def _tables(recipe: DatasetRecipe, run: Run) -> dict[str, dict[str, Path]]:
    """The tables of a dataset: config → split → file."""
    tables = {"corpus": {"train": run.path("curate", "corpus.parquet")}, "pairs": _splits(run, "curate", "pairs")}
    return tables | ({"triplets": _splits(run, "mine", "triplets")} if recipe.mine else {})


def _pictures(run: Run) -> dict[str, Path | bytes]:
    """The picture of the mining, where one was drawn."""
    record = run.record("mine")
    return {name: run.path("mine", name) for name in (record.outputs if record else {}) if name.endswith(".png")}


def _splits(run: Run, stage: str, table: str) -> dict[str, Path]:
    names = {split: f"{table}-{split}.parquet" for split in ("train", "dev")}
    return {split: run.path(stage, name) for split, name in names.items() if name in run.finished(stage).outputs}


def _described(splits: dict[str, Path]) -> cards.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        field.name: f"list of {field.type.value_type}" if pa.types.is_list(field.type) else str(field.type)
        for field in pq.read_schema(splits["train"])
    }
    return cards.Table({split: pq.read_metadata(path).num_rows for split, path in splits.items()}, columns)


def _done_as_it_is_told(stage: str, record: Record, recipe: Recipe, run: Run) -> None:
    """A card must not tell settings that a stage was not done with."""
    if record.said is not None and import_module(f"medembed.{stage}").inputs(recipe, run)[0] != record.said:
        what = f"`{stage}` was done with other settings than the recipe now says"
        raise InputError.of(what, str(run.folder), "Run `medembed run` with the recipe.")


def _evaluated_this_model(evaluated: Record, run: Run) -> None:
    revision = (evaluated.facts.get("tuned") or {}).get("revision")
    if revision and not models.weights_hash(run.path("train", "model")).startswith(revision):
        what = "the results are those of another model: it was trained again since"
        raise InputError.of(what, str(run.folder), "Run `medembed evaluate` with the recipe first.")


# ---- delivery --------------------------------------------------------------------------------------------------------


def _mine(recipe: Recipe) -> dict[str, str]:
    return {"kind": recipe.kind, "name": recipe.name}


def _place(recipe: Recipe) -> hub.Place:
    return hub.Place(recipe.publish.repo or "", recipe.kind, recipe.name, recipe.publish.private)


def _target(recipe: Recipe) -> Path:
    return Path(recipe.publish.folder or "").expanduser().absolute()


def _deliver(recipe: Recipe, folder: Path) -> tuple[str, str | None]:
    """Where the artifact can now be loaded from: a Hub id and a commit, or a local folder."""
    if recipe.publish.repo:
        return recipe.publish.repo, hub.to_hub(folder, _place(recipe))
    push.to_folder(folder, _target(recipe), _mine(recipe))
    return str(_target(recipe)), None


# ---- proof -----------------------------------------------------------------------------------------------------------


def _prove_model(recipe: ModelRecipe, run: Run, loaded_from: str, revision: str | None) -> dict[str, Any]:
    """Load the published model; it must embed as the trained one does. Then ask it the recipe's query."""
    import numpy as np
    from sentence_transformers import SentenceTransformer

    trained = SentenceTransformer(str(run.path("train", "model")), device="cpu")
    with _loading(loaded_from):
        published = SentenceTransformer(loaded_from, revision=revision, device="cpu")
    texts = list(SENTENCES)
    differences = [
        np.abs(published.encode_query(texts) - trained.encode_query(texts)).max(),
        np.abs(published.encode_document(texts) - trained.encode_document(texts)).max(),
    ]
    if not max(differences) <= TOLERANCE:
        what = f"the published model embeds otherwise than the trained one: they differ by {max(differences):.2g}"
        raise RunError.of(what, loaded_from, "Run the same command again.")
    proof = {"loaded_back": {"sentences": len(texts), "equal_within": TOLERANCE}}
    return proof | (_ask(published, recipe) if recipe.publish.ask else {})


def _ask(model: Any, recipe: ModelRecipe) -> dict[str, Any]:
    """The top three passages for the recipe's query, of the first local evaluation task; nothing when there is none."""
    corpora = [path for task in recipe.evaluate.tasks if (path := Path(task) / "corpus.jsonl").is_file()]
    if not corpora:
        return {}
    with corpora[0].open(encoding="utf-8") as file:
        passages = [json.loads(line) for line in file if line.strip()]
    texts = [passage_input(passage.get("title"), passage["text"]) for passage in passages]
    embedded = model.encode_document(texts, batch_size=recipe.evaluate.batch_size, show_progress_bar=True)
    scores = model.similarity(model.encode_query([recipe.publish.ask]), embedded)[0]  # (P,)
    found = [
        {
            "score": round(float(scores[i]), 4),
            "title": passages[i].get("title") or "",
            "text": passages[i]["text"][:120],
        }
        for i in scores.argsort(descending=True)[:3].tolist()
    ]
    return {"asked": {"query": recipe.publish.ask, "passages": found}}


def _prove_dataset(recipe: DatasetRecipe, run: Run, loaded_from: str, revision: str | None) -> dict[str, Any]:
    """Load the published dataset as its users do; it must have the rows that were written."""
    from datasets import load_dataset

    config = "triplets" if recipe.mine else "pairs"
    with tempfile.TemporaryDirectory(dir=run.path("publish"), prefix=".load-") as cache, _loading(loaded_from):
        loaded = load_dataset(loaded_from, config, revision=revision, cache_dir=cache)
        rows = {split: table.num_rows for split, table in loaded.items()}
    if rows != (written := _described(_tables(recipe, run)[config]).rows):
        what = f"the published dataset has other rows than were written: {rows}, not {written}"
        raise RunError.of(what, loaded_from, "Run the same command again.")
    return {"loaded_back": {"config": config, "rows": rows}}


@contextmanager
def _loading(place: str) -> Iterator[None]:
    """Whatever a library says when it cannot load what was just published, with the place and what to do."""
    try:
        with hub.told(place):
            yield
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        what = f"what was published could not be loaded back: {type(error).__name__}"
        raise RunError.of(what, place, "Run the same command again.") from error
