"""Run folders of models as `train` leaves them, for the stage and for what reads its results."""

import shutil
from pathlib import Path
from typing import Any

from medembed.recipe import ModelRecipe
from medembed.run import Record, Run, sha256
from medembed.tasks import task_name


def model_recipe(base: Path, tasks: list[str], **evaluate: Any) -> ModelRecipe:
    return ModelRecipe.model_validate(
        {
            "kind": "model",
            "name": "test-model",
            "base": str(base),
            "data": {"dataset": "org/none"},
            "evaluate": {"tasks": tasks, "resamples": 500, **evaluate},
            "publish": {"folder": "hub"},
        }
    )


def trained(recipe: ModelRecipe, folder: Path, model: Path) -> Run:
    """A run folder as `train` leaves it."""
    run = Run(recipe, folder)
    with run.locked():
        shutil.copytree(model, run.path("train", "model"))
        weights = {"model/model.safetensors": sha256(model / "model.safetensors")}
        compared = {task_name(task): {"queries": 0, "passages": 0} for task in recipe.evaluate.tasks}
        facts = {"checks": {"tasks": compared}}
        run.perform("train", "trained", lambda: Record(stage="train", outputs=weights, facts=facts))
    return run
