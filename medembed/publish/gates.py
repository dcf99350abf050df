"""What keeps an artifact from being published: data that is not open and identifiers of persons (off public repositories; private ones
and folders pass); a model that is worse than its base, files that nobody expects, secrets (anywhere).

`check` tells before anything starts what a recipe alone gives away; the others judge what a finished run holds.
"""

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from medembed import licences
from medembed.errors import InputError, all_told
from medembed.provenance import licences_of, without_paths
from medembed.publish.push import Artifact
from medembed.recipe import DatasetRecipe, ModelRecipe, Recipe

EXPECTED = {  # paths in the repository; what is saved by code of today, and holds no code itself
    "model": r"README\.md|provenance\.json|[\w-]+\.json|vocab\.txt|merges\.txt|\w+(\.bpe)?\.model|[\w-]+\.(png|svg)"
    r"|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|\d+_\w+/(config\.json|model\.safetensors)"
    r"|results/[^/]+/[^/]+/[^/]+\.json|\.eval_results/[\w.-]+\.yaml|onnx/[\w.-]+\.onnx|openvino/[\w.-]+\.(xml|bin)",
    "dataset": r"README\.md|provenance\.json|[\w-]+\.png|(corpus|pairs|triplets)/(train|dev)-\d+-of-\d+\.parquet",
}
SECRETS = re.compile(
    rb"hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{32,}|gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{50,}|AKIA[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{20,}"
    rb"|AIza[A-Za-z0-9_-]{35}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MEDEMBED_API_KEY")  # in the environment
CHUNK, OVERLAP = 1 << 24, 1 << 8  # bytes of a file that are looked through at once, and that two chunks share


def check(recipe: Recipe) -> None:
    """Look whether a gate is sure to keep the artifact back, before anything starts.

    Raises:
        InputError: a dataset for everybody from sources that are not open, or without a filter that looks for identifiers of persons.
    """
    if isinstance(recipe, DatasetRecipe):
        said = [(without_paths(each.source), each.license) for each in recipe.sources if "license" not in each.columns]
        known = [{"source": name, "license": licences.identify(licence, name)} for name, licence in said]
        looks = [partial(may_be_public, recipe, {"sources": known})]
        if not any(each.phi for each in recipe.curate):
            looks.append(partial(holds_no_identifiers, recipe, None))
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


def holds_no_identifiers(recipe: DatasetRecipe, phi: dict[str, Any] | None) -> None:
    """`phi` is what the gate in curate tells; None where there was none."""
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


def is_no_regression(recipe: ModelRecipe, verdict: str | None) -> None:
    """A model that ranks worse than its base goes out with its author's reason alone, which stands on the card."""
    if verdict == "REGRESSION" and not recipe.publish.allow_regression:
        mend = "Train otherwise; or publish it with a reason, which its card tells: `--allow-regression REASON`."
        raise InputError.of("the model is worse than its base: REGRESSION", recipe.name, mend)


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
    with content.open("rb") as file:
        tail = b""
        while block := file.read(CHUNK):
            yield tail + block
            tail = block[-OVERLAP:]
