"""A candidate on the Hub → the release: a recipe that names its commit in; main and a tag out, when it passes all gates and tests.

For machines without the run folder, such as a CI job. Everything is judged by what was downloaded: the manifest by the gates, the
files by the Hub's hashes, a model by measuring it again on its smallest task, a dataset by loading it and counting its rows.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medembed.errors import InputError, RunError
from medembed.evaluate.alone import measure_alone, summary
from medembed.provenance import PROVENANCE, said_by, within
from medembed.publish import gates, hub, place_of, proof, push
from medembed.recipe import DatasetRecipe, ModelRecipe, Recipe
from medembed.tasks import task_name

MAIN = "ndcg_at_10"
TOLERANCE = 0.005  # of a score: half a point, since other hardware rounds otherwise


@dataclass(frozen=True)
class Promoted:
    """What was proved, what it does to the files of main, and the commit that is the release; none when it was only tried."""

    proof: str
    changes: dict[str, str]
    commit: str | None


def promote(recipe: Recipe, *, only_try: bool = False) -> Promoted:
    """Take the candidate that the recipe names, judge and try it, and make it the release.

    Raises:
        InputError: the recipe names none, it is not there, another recipe has made it, or a gate keeps it back.
        RunError: it is not what it says it is, or the Hub fails.
    """
    place, commit = _named(recipe)
    with tempfile.TemporaryDirectory() as scratch, hub.fetched(place, commit, Path(scratch)) as (delivered, folder):
        artifact = push.files_of(folder)
        manifest: Any = push.parsed(artifact[PROVENANCE].read_bytes()) if PROVENANCE in artifact else None
        _made_by(recipe, manifest, f"{place.repo}@{commit}")
        gates.judge(recipe, manifest)
        gates.holds_what_is_expected(recipe.kind, artifact)
        if isinstance(recipe, ModelRecipe):
            proved = _measured_again(recipe, manifest, folder, Path(scratch))
        else:
            proved = _counted_again(recipe, manifest, delivered, Path(scratch))
        changes = push.changes(artifact, hub.on_hub(place, artifact))
        return Promoted(proved, changes, None if only_try else hub.promote(folder, place))


def _named(recipe: Recipe) -> tuple[hub.Place, str]:
    if recipe.publish.candidate is None:
        mend = "`medembed publish RECIPE --candidate` makes one, and tells the commit to write there."
        raise InputError.of("the recipe names no `publish.candidate`", recipe.name, mend)
    return place_of(recipe), recipe.publish.candidate


def _made_by(recipe: Recipe, manifest: Any, where: str) -> None:
    """What is released under a recipe's name was made by this recipe, as it stands now."""
    theirs, ours = within(manifest, "recipe"), said_by(recipe)
    if differing := sorted(key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key)):
        what = f"the candidate was made by another recipe: {', '.join(differing)}"
        raise InputError.of(
            what, where, "Name another candidate, or make one anew: `medembed publish RECIPE --candidate`."
        )


def _measured_again(recipe: ModelRecipe, manifest: Any, folder: Path, scratch: Path) -> str:
    """The smallest task's score, which must be the one that the card tells."""
    results = within(manifest, "stages", "evaluate", "facts", "tasks")
    task = min(recipe.evaluate.tasks, key=lambda each: results[task_name(each)]["passages"])
    name, evaluate = task_name(task), recipe.evaluate
    measured = measure_alone(
        str(folder), [task], scratch / "smoke", languages=evaluate.languages, batch_size=evaluate.batch_size
    )
    has, told = summary(measured)[name][MAIN], float(results[name][MAIN]["tuned"])
    if not abs(has - told) <= TOLERANCE:
        what = f"the candidate does not score what its card tells: {100 * has:.1f} on {name}, not {100 * told:.1f}"
        raise RunError.of(what, recipe.name, "Evaluate it again, and make a new candidate.")
    return f"{name}: nDCG@10 {100 * has:.1f}, as its card tells"


def _counted_again(recipe: DatasetRecipe, manifest: Any, delivered: push.Delivered, scratch: Path) -> str:
    """The rows that load, which must be as many as were made."""
    config = "triplets" if recipe.mine else "pairs"
    told = within(manifest, "stages", "mine" if recipe.mine else "curate", "counts").get(config)
    rows = proof.count_rows(config, delivered, scratch)
    if sum(rows.values()) != told:
        what = f"the candidate has {sum(rows.values())} {config}, and its manifest tells of {told}"
        raise RunError.of(what, delivered.name, "Make a new candidate.")
    return f"{config}: {told:,} rows, as its manifest tells"
