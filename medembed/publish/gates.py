"""What keeps an artifact off public repositories: data that is not open, and identifiers of persons. Private ones and folders pass.

`check` tells before anything starts what a recipe alone gives away; the other two judge what a finished run holds.
"""

from functools import partial
from typing import Any

from medembed import licences
from medembed.errors import InputError, all_told
from medembed.provenance import licences_of, without_paths
from medembed.recipe import DatasetRecipe, Recipe


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
