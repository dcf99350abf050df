"""A finished run → an artifact with a card, on the Hub or in a local folder with the layout of one.

The artifact is first a list (path in the repository → file or text), so that a card that cannot be written or data that must not
be published costs nothing; then a folder; then a candidate beside what is published, loaded from there and compared; then the release.
"""

import json
import os
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Any

from medembed import export, models
from medembed.errors import InputError
from medembed.provenance import PROVENANCE, manifest
from medembed.publish import cards, gates, hub, proof, push
from medembed.recipe import DatasetRecipe, ModelRecipe, Recipe
from medembed.run import Record, Run, sha256
from medembed.stages import stages_of


def inputs(recipe: Recipe, run: Run) -> tuple[Any, Any]:
    records = {stage: run.finished(stage) for stage in stages_of(recipe)[:-1]}
    for stage, record in records.items():
        _done_as_it_is_told(stage, record, recipe, run)
    if isinstance(recipe, ModelRecipe):
        _evaluated_this_model(records["evaluate"], run)
    said = {"name": recipe.name, "publish": recipe.publish.model_dump(mode="json", exclude={"candidate"})}
    read = {stage: [record.fingerprint, record.outputs] for stage, record in records.items()}
    return said, read | {
        "cards": [sha256(path) for path in cards.templates()],
        "hub": os.environ.get("HF_ENDPOINT"),
    }


def work(recipe: Recipe, run: Run) -> Record:
    artifact = contents(recipe, run)
    folder = run.path("publish", "repo")
    push.write(artifact, folder)
    record = Record("publish", counts={"files": len(artifact)})
    with _candidate(recipe, run, folder) as candidate:
        record.facts |= _proved(recipe, run, candidate)
        commit = _promote(recipe, folder)
    record.facts["where"] = f"{recipe.publish.repo}@{commit}" if commit else recipe.publish.folder
    record.facts["tag"] = recipe.publish.tag
    record.facts["files"] = {path: file.stat().st_size for path, file in push.files_of(folder).items()}
    record.outputs = {f"repo/{path}": sha256(folder / path) for path in artifact if path != PROVENANCE}
    if commit is None:  # so that the stage is not done once somebody has removed the published folder
        record.outputs |= {str(_target(recipe) / path): sha256(folder / path) for path in artifact}
    return record


def propose(recipe: Recipe, run: Run) -> str:
    """Bring the artifact to the Hub as a candidate and prove it, as `work` does, and leave it there; its commit.

    Raises:
        InputError, RunError: as `work`; InputError also for a folder, which has no candidates.
    """
    if not recipe.publish.repo:
        raise InputError.of("only a repository on the Hub has candidates", recipe.name, "Say `--to ORG/NAME`.")
    with run.locked():
        inputs(recipe, run)
        folder = run.path("publish", "repo")
        push.write(contents(recipe, run), folder)
        with _candidate(recipe, run, folder) as candidate:
            _proved(recipe, run, candidate)
            return str(candidate.commit)


def stands(recipe: Recipe, record: Record) -> bool:
    """Whether what `work` has published is still there. Of a folder the record's own outputs tell."""
    if not recipe.publish.repo:
        return True
    return hub.stands(place_of(recipe), str(record.facts["where"]).rpartition("@")[2])


def plan(recipe: Recipe, run: Run) -> list[tuple[str, int, str]]:
    """What publishing would do: (path in the repository, bytes, add | replace | keep | remove). Writes nothing."""
    inputs(recipe, run)
    artifact = contents(recipe, run)
    sizes = {path: c.stat().st_size if isinstance(c, Path) else len(c) for path, c in artifact.items()}
    return [
        (path, sizes.get(path, 0), action) for path, action in push.changes(artifact, look(recipe, artifact)).items()
    ]


def look(recipe: Recipe, artifact: push.Artifact | None = None) -> dict[str, push.Stored]:
    """The files that stand at the place of publication; with an `artifact`, also whether its tag is free. Writes nothing.

    Raises:
        InputError: this artifact cannot go there: no or a wrong token, or it holds something else.
        RunError: the Hub cannot be reached.
    """
    return (
        hub.on_hub(place_of(recipe), artifact)
        if recipe.publish.repo
        else push.in_folder(_target(recipe), _mine(recipe))
    )


# ---- the artifact ----------------------------------------------------------------------------------------------------


def contents(recipe: Recipe, run: Run) -> dict[str, Path | bytes]:
    """Everything that is published: path in the repository → file or text.

    Raises:
        InputError: a gate keeps it back.
    """
    made_of = manifest(recipe, run)
    gates.judge(recipe, made_of)
    if isinstance(recipe, ModelRecipe):
        card = cards.model_card(made_of)
        results = {path: text.encode() for path, text in cards.eval_results(made_of).items()}
        files = _model_files(recipe, run) | _pictures(run, "evaluate") | results
    else:
        tables = _tables(recipe, run)
        described = {config: _described(splits) for config, splits in tables.items()}
        card = cards.dataset_card(made_of, described)
        files = _pictures(run, "mine") | {
            f"{config}/{split}-00000-of-00001.parquet": path
            for config, splits in tables.items()
            for split, path in splits.items()
        }
    made_of["files"] = sorted(["README.md", PROVENANCE, *files])
    told = json.dumps(made_of, indent=2, ensure_ascii=False) + "\n"
    artifact = {"README.md": card.encode(), PROVENANCE: told.encode(), **files}
    gates.card_is_complete(recipe, card)
    gates.holds_what_is_expected(recipe.kind, artifact)
    return artifact


def _model_files(recipe: ModelRecipe, run: Run) -> dict[str, Path | bytes]:
    """The model's files, its exports and mteb's results, without the cards that a trainer generates: those quote training texts."""
    model, results = run.path("train", "model"), run.path("evaluate", "results")
    files = {
        path: file
        for path, file in push.files_of(model).items()
        if file.name != "README.md" and not any(part.startswith((".", "checkpoint-")) for part in Path(path).parts)
    }
    exports = export.published(run.finished("export"), run.path("export")) if recipe.export else {}
    return {**files, **exports, **{f"results/{path}": file for path, file in push.files_of(results).items()}}


def _tables(recipe: DatasetRecipe, run: Run) -> dict[str, dict[str, Path]]:
    """The tables of a dataset: config → split → file."""
    tables = {"corpus": {"train": run.path("curate", "corpus.parquet")}, "pairs": _splits(run, "curate", "pairs")}
    return tables | ({"triplets": _splits(run, "mine", "triplets")} if recipe.mine else {})


def _pictures(run: Run, stage: str) -> dict[str, Path | bytes]:
    """The pictures that a stage has drawn, where it could."""
    record = run.record(stage)
    return {
        name: run.path(stage, name) for name in (record.outputs if record else {}) if name.endswith((".png", ".svg"))
    }


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
    """A card must not tell settings that a stage was not done with, nor of a stage before that has been done again since."""
    if record.said is None:
        return
    said, read = import_module(f"medembed.{stage}").inputs(recipe, run)
    # Not what lies elsewhere: what was made of a dataset that has moved on since is still what its record tells.
    here, then = ({name: it.get(name) for name in stages_of(recipe)} for it in (read, record.read or {}))
    if said != record.said or json.loads(json.dumps(here)) != then:
        than = (
            "with other settings than the recipe now says"
            if said != record.said
            else "before what it reads was made again"
        )
        raise InputError.of(f"`{stage}` was done {than}", str(run.folder), "Run `medembed run` with the recipe.")


def _evaluated_this_model(evaluated: Record, run: Run) -> None:
    revision = (evaluated.facts.get("tuned") or {}).get("revision")
    if revision and not models.weights_hash(run.path("train", "model")).startswith(revision):
        what = "the results are those of another model: it was trained again since"
        raise InputError.of(what, str(run.folder), "Run `medembed evaluate` with the recipe first.")


# ---- delivery --------------------------------------------------------------------------------------------------------


def _mine(recipe: Recipe) -> dict[str, str]:
    return {"kind": recipe.kind, "name": recipe.name}


def place_of(recipe: Recipe) -> hub.Place:
    """Where on the Hub the artifact belongs."""
    said = recipe.publish
    return hub.Place(said.repo or "", recipe.kind, recipe.name, said.private, said.tag, said.collection)


def _target(recipe: Recipe) -> Path:
    return Path(recipe.publish.folder or "").expanduser().absolute()


def _candidate(recipe: Recipe, run: Run, folder: Path) -> AbstractContextManager[push.Delivered]:
    if recipe.publish.repo:
        return hub.candidate(folder, place_of(recipe), run.path("publish"))
    return push.candidate(folder, _target(recipe), _mine(recipe))


def _proved(recipe: Recipe, run: Run, candidate: push.Delivered) -> dict[str, Any]:
    if isinstance(recipe, ModelRecipe):
        return proof.prove_model(recipe, run.path("train", "model"), candidate)
    rows = {config: _described(splits).rows for config, splits in _tables(recipe, run).items()}
    return proof.prove_dataset(rows, candidate, run.path("publish"))


def _promote(recipe: Recipe, folder: Path) -> str | None:
    """The commit of main that is the release; none for a folder."""
    if recipe.publish.repo:
        return hub.promote(folder, place_of(recipe))
    push.promote(folder, _target(recipe), _mine(recipe))
    return None
