"""What keeps an artifact from being published. Off public repositories, but not off private ones and folders: data that is not open,
identifiers of persons, and data that was not compared with evaluation tasks. Anywhere: a model that is worse than its base, was not
measured on all its tasks or may have been trained on one; files that nobody expects; secrets.

`check` tells before anything starts what a recipe alone gives away; `judge` what its manifest does, be it of a run or of a candidate.
"""

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from medembed import licences
from medembed.errors import InputError, all_told
from medembed.provenance import learned_from, licences_of, within, without_paths
from medembed.publish.push import Artifact
from medembed.recipe import DatasetRecipe, ModelRecipe, Recipe, is_local
from medembed.tasks import task_name

EXPECTED = {  # paths in the repository; what is saved by code of today, and holds no code itself
    "model": r"README\.md|provenance\.json|[\w-]+\.json|vocab\.txt|merges\.txt|\w+(\.bpe)?\.model|[\w-]+\.(png|svg)"
    r"|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|\d+_\w+/(config\.json|model\.safetensors)"
    r"|results/[^/]+/[^/]+/[^/]+\.json|\.eval_results/[\w.-]+\.yaml|onnx/[\w.-]+\.onnx|openvino/[\w.-]+\.(xml|bin)",
    "dataset": r"README\.md|provenance\.json|[\w-]+\.png|(corpus|pairs|triplets)/(train|dev)-\d+-of-\d+\.parquet",
    "space": r"README\.md|provenance\.json|index\.html|tasks/[\w.-]+\.html|assets/\w+\.(css|js)|results/([^/]+/){2,3}[^/]+\.json",
}
METADATA = {  # that a card on the Hub is found and read by
    "model": ("license", "language", "library_name", "pipeline_tag", "tags", "model-index"),
    "dataset": ("license", "language", "pretty_name", "task_categories", "size_categories", "tags", "configs"),
}
SECRETS = re.compile(
    rb"hf_(jwt_|oauth_)?[A-Za-z0-9._-]{30,}|(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{32,}|gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{50,}|AKIA[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{20,}"
    rb"|AIza[A-Za-z0-9_-]{35}|glpat-[A-Za-z0-9_-]{20,}|pypi-[A-Za-z0-9_-]{40,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
TOKENS = (  # in the environment
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_OIDC_ID_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "GITHUB_TOKEN",
    "MEDEMBED_API_KEY",
)
CHUNK, OVERLAP = 1 << 24, 1 << 8  # bytes of a file that are looked through at once, and that two chunks share


def check(recipe: Recipe) -> None:
    """Look whether a gate is sure to keep the artifact back, before anything starts.

    Raises:
        InputError: a dataset for everybody from sources that are not open, without a filter that looks for identifiers of persons, or
            without one that compares it with evaluation tasks.
    """
    if isinstance(recipe, DatasetRecipe):
        said = [(without_paths(each.source), each.license) for each in recipe.sources if "license" not in each.columns]
        known = [{"source": name, "license": licences.identify(licence, name)} for name, licence in said]
        looks = [partial(may_be_public, recipe, {"sources": known})]
        if not any(each.phi for each in recipe.curate):
            looks.append(partial(holds_no_identifiers, recipe, None))
        if not any(each.decontaminate for each in recipe.curate):
            looks.append(partial(is_decontaminated, recipe, {}))
        all_told(looks)


def judge(recipe: Recipe, manifest: dict[str, Any]) -> None:
    """Whether what the manifest tells of the artifact lets it pass all gates.

    Raises:
        InputError: with the faults of all of them.
    """
    facts = {stage: within(manifest, "stages", stage, "facts") for stage in within(manifest, "stages")}
    if isinstance(recipe, ModelRecipe):
        trained, evaluated, upstream = facts.get("train", {}), facts.get("evaluate", {}), within(manifest, "upstream")
        looks = [
            partial(is_measured, recipe, within(evaluated, "tasks")),
            partial(is_no_regression, recipe, evaluated.get("verdict")),
            partial(
                is_compared_with_its_tasks,
                recipe,
                within(manifest, "decontamination"),
                within(trained, "checks", "tasks"),
            ),
            partial(may_be_public, recipe, learned_from(upstream, within(trained, "dataset").get("name"))),
        ]
        if upstream:  # one that is not known has no licence either
            looks.append(
                partial(holds_no_identifiers, recipe, within(upstream, "stages", "curate", "facts").get("phi"))
            )
    else:
        curated = facts.get("curate", {})
        looks = [
            partial(may_be_public, recipe, within(manifest, "origins")),
            partial(holds_no_identifiers, recipe, curated.get("phi")),
            partial(is_decontaminated, recipe, within(curated, "decontaminate", "tasks")),
        ]
    all_told(looks)


def may_be_public(recipe: Recipe, origins: dict[str, list[dict[str, Any]]]) -> None:
    """A model's author may answer for its weights by `publish.license`, but not for data that may not be passed on at all."""
    if not recipe.publish.repo or recipe.publish.private:
        return
    closed = {
        (str(row.get("source")), licence)
        for rows in origins.values()
        for row in rows
        if not licences.is_open(licence := str(row.get("license", licences.UNKNOWN)))
    }
    if recipe.kind == "model" and recipe.publish.license:
        closed = {(source, licence) for source, licence in closed if licence == licences.AGREEMENT}
    if closed:
        told = ", ".join(f"{source} ({licence})" for source, licence in sorted(closed))
        mend = "Say `publish.private: true`, publish to a folder, or leave these sources out."
        if recipe.kind == "model" and all(licence != licences.AGREEMENT for _, licence in closed):
            mend += " Or take it upon you: `publish.license` says under which licence the model goes out."
        raise InputError.of(f"the data is not open: {told}", f"publish.repo: {recipe.publish.repo}", mend)
    said = recipe.publish.license
    if recipe.kind == "dataset" and said and not licences.covers(said, licences_of(origins)):
        what = f"`publish.license: {said}` asks less than the sources do: {', '.join(licences_of(origins))}"
        mend = "Leave it out: the licence is then computed."
        raise InputError.of(what, f"publish.repo: {recipe.publish.repo}", mend)


def holds_no_identifiers(recipe: Recipe, phi: dict[str, Any] | None) -> None:
    """`phi` is what the gate in curate tells, of the dataset or of the one that a model was trained on; None where there was none."""
    if not recipe.publish.repo or recipe.publish.private:
        return
    where = f"publish.repo: {recipe.publish.repo}"
    if phi is None:
        mend = "Add `- phi: redact` under `curate`, say `publish.private: true`, or publish to a folder."
        raise InputError.of("nobody has looked for personal health information", where, mend)
    if left := {kind: rows for kind, rows in phi["remaining"].items() if kind in phi["direct"]}:
        told = ", ".join(f"{kind} {rows:,}" for kind, rows in left.items())
        mend = "Say `phi: redact` or `phi: block` under `curate`, `publish.private: true`, or publish to a folder."
        raise InputError.of(f"identifiers of persons are left in the data: {told}", where, mend)


def is_decontaminated(recipe: DatasetRecipe, tasks: dict[str, Any]) -> None:
    """Who trains on a public dataset relies on its not holding the tests. `tasks` are those that `decontaminate` in curate tells of."""
    if recipe.publish.repo and not recipe.publish.private and not tasks:
        mend = "Add `- decontaminate: default` under `curate`, say `publish.private: true`, or publish to a folder."
        where = f"publish.repo: {recipe.publish.repo}"
        raise InputError.of("nobody has compared the data with evaluation tasks", where, mend)


def is_measured(recipe: ModelRecipe, results: dict[str, Any]) -> None:
    """`results` by task, as the evaluation told them."""
    if missing := [name for task in recipe.evaluate.tasks if (name := task_name(task)) not in results]:
        raise InputError.of(f"there are no results on {', '.join(missing)}", recipe.name, "Run `medembed evaluate`.")


def is_compared_with_its_tasks(recipe: ModelRecipe, decontaminated: dict[str, Any], checked: dict[str, Any]) -> None:
    """Each task's texts were compared with the training data: by `decontaminate`, which removes, or by train, which counts and stops.

    `decontaminated`: what the dataset's manifest tells, by task; `checked`: what train found, figures or why there are none.
    """

    def compared(task: str) -> bool:
        return within(decontaminated, task).get("state") == "decontaminated" or isinstance(checked.get(task), dict)

    if missing := [name for task in recipe.evaluate.tasks if not compared(name := task_name(task))]:
        what = f"nobody has compared the training data with {', '.join(missing)}"
        mend = "Name it under `decontaminate` in the dataset's recipe; or train with it in `evaluate.tasks`: training then compares."
        raise InputError.of(what, recipe.name, mend)


def is_no_regression(recipe: ModelRecipe, verdict: str | None) -> None:
    """A model that ranks worse than its base goes out with its author's reason alone, which stands on the card."""
    if verdict is None:
        raise InputError.of(
            "nobody has told whether it is better than its base", recipe.name, "Run `medembed evaluate`."
        )
    if verdict == "REGRESSION" and not recipe.publish.allow_regression:
        mend = "Train otherwise; or publish it with a reason, which its card tells: `--allow-regression REASON`."
        raise InputError.of("the model is worse than its base: REGRESSION", recipe.name, mend)


def card_is_complete(recipe: Recipe, card: str) -> None:
    """
    Raises:
        InputError: the card lacks metadata by which the Hub lists, filters and checks. A fact that it lacks it tells itself.
    """
    from huggingface_hub import RepoCard

    metadata = RepoCard(card, ignore_metadata_errors=True).data
    wanted = [*METADATA[recipe.kind]]
    if isinstance(recipe, ModelRecipe):
        wanted += [] if is_local(recipe.base.model) else ["base_model", "base_model_relation"]
        wanted += [] if is_local(recipe.data.dataset) else ["datasets"]
    if missing := [key for key in wanted if not metadata.get(key)]:
        what = f"the card is not complete: its metadata lack {', '.join(missing)}"
        raise InputError.of(what, "README.md", "Run `medembed run` with the recipe: what it tells is on the card.")


def holds_what_is_expected(kind: str, artifact: Artifact) -> None:
    """
    Raises:
        InputError: a file that no stage writes, or one that holds a key or token; never the secret itself.
    """
    if strangers := sorted(path for path in artifact if not re.fullmatch(EXPECTED[kind], path)):
        what = f"{len(strangers)} files are none of those that a {kind} has: {', '.join(strangers[:3])}"
        raise InputError.of(what, mend="Remove them from the run folder, or run the stage that wrote them again.")
    if told := sorted(path for path, content in artifact.items() if _holds_secret(content)):
        mend = "Find out how it came there, revoke it, and make the file again without it."
        raise InputError.of("a file holds what looks like a key or an access token", ", ".join(told[:3]), mend)


def _holds_secret(content: Path | bytes) -> bool:
    mine = [value.encode() for name in TOKENS if len(value := os.environ.get(name, "")) >= 8]
    return any(SECRETS.search(chunk) or any(secret in chunk for secret in mine) for chunk in _chunks(content))


def _chunks(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    if content.suffix == ".parquet":  # compressed: its texts are looked at, not its bytes
        yield from _texts(content)
        return
    with content.open("rb") as file:
        tail = b""
        while block := file.read(CHUNK):
            yield tail + block
            tail = block[-OVERLAP:]


def _texts(table: Path) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(table) as file:
        yield str(file.schema_arrow).encode()
        for batch in file.iter_batches(1024):
            for column in batch.columns:
                values = column.flatten() if pa.types.is_list(column.type) else column
                if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
                    yield "\n".join(text for text in values.to_pylist() if text).encode()
