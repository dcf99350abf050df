"""The stages and their order. A stage is a package of its name with two functions:

    inputs(recipe, run) -> (said, read)    what the recipe says of the stage, and the hashes of what it reads: its fingerprint
    work(recipe, run) -> Record            do it, write files through `run`, return what was done

`perform` puts a lock, the fingerprint and the record around them. Stage packages are imported only when they run.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module

from medembed.errors import all_told
from medembed.recipe import DatasetRecipe, Recipe
from medembed.run import Record, Run, fingerprint, no_space_is_told


def stages_of(recipe: Recipe) -> list[str]:
    """The stages that a recipe asks for, in order."""
    if isinstance(recipe, DatasetRecipe):
        asked = {"generate": recipe.generate, "curate": True, "mine": recipe.mine, "publish": True}
        return [stage for stage, wanted in asked.items() if wanted]
    return ["train", "evaluate", *(["export"] if recipe.export else []), "publish"]


def check(recipes: list[Recipe]) -> None:
    """Look at everything that recipes name, before anything starts: sources, models, tasks, the place of publication.

    Raises:
        InputError: with all that is wrong in all of them.
    """
    from medembed import curate, export, models, publish, sources
    from medembed.publish import gates

    looks: list[Callable[[], object]] = []
    for recipe in recipes:
        if isinstance(recipe, DatasetRecipe):
            looks.append(partial(sources.check_sources, recipe.sources))
            looks += [partial(models.resolve, model) for model in recipe.models]
            looks.append(partial(curate.check, recipe))
        else:
            from medembed.evaluate import check_tasks
            from medembed.evaluate.contestants import check_peers

            if recipe.train.development and recipe.train.development.others:
                from medembed.train import development

                looks.append(partial(development.check, recipe))
            looks += [partial(models.resolve, model) for model in recipe.models]
            looks.append(partial(check_tasks, recipe.evaluate))
            looks.append(partial(check_peers, recipe))
            if recipe.export:
                looks.append(partial(export.check, recipe))
        looks += [partial(gates.check, recipe), partial(publish.look, recipe)]
    all_told(looks)


def today(stage: str, recipe: Recipe, run: Run) -> str:
    """The fingerprint that a stage would have if it were done now."""
    said, read = import_module(f"medembed.{stage}").inputs(recipe, run)
    return fingerprint(stage, said, read)


def done(stage: str, recipe: Recipe, run: Run) -> Record | None:
    """The record of a stage that was done with the same recipe and inputs, and whose work still stands."""
    return _standing(stage, recipe, run.done(stage, today(stage, recipe, run)))


def perform(stage: str, recipe: Recipe, run: Run, skipping: Callable[[Record], None] = lambda record: None) -> Record:
    """Do a stage, or, when it was done with the same recipe and inputs, call `skipping` with its record."""
    module = import_module(f"medembed.{stage}")
    with no_space_is_told(f"doing `{stage}`", run.folder), run.locked():
        said, read = module.inputs(recipe, run)
        now = fingerprint(stage, said, read)
        if record := _standing(stage, recipe, run.done(stage, now)):
            skipping(record)
            return record
        return run.perform(stage, now, lambda: module.work(recipe, run), said, read)


def _standing(stage: str, recipe: Recipe, record: Record | None) -> Record | None:
    """The record; none where what was published has been taken down since, which no file in the run folder tells."""
    if record is None or stage != "publish":
        return record
    from medembed import publish

    return record if publish.stands(recipe, record) else None
