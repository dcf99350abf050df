"""`accelerate launch [--config_file YAML] -m medembed.mine RECIPE [key=value ...] [--run-dir DIR]`, in every process of the launch."""

from collections.abc import Callable
from functools import cache
from typing import Any

from medembed import distributed, models
from medembed.recipe import DatasetRecipe, Recipe
from medembed.retrieval.reranking import Grading


def main() -> None:
    distributed.work("mine", "Pairs → triplets.", _models)


def _models(recipe: Recipe) -> Callable[[Any], Any]:
    """The retriever for texts, the teacher for pairs; each loaded when the first job asks for it."""
    assert isinstance(recipe, DatasetRecipe)
    assert recipe.mine
    retriever, teacher = recipe.mine.dense, recipe.mine.teacher

    @cache
    def loaded(grades: bool) -> Any:
        if grades:
            assert teacher
            return models.load_reranker(teacher.model)
        assert retriever
        return models.load(retriever, method="dense")

    return lambda job: loaded(isinstance(job, Grading))


if __name__ == "__main__":
    main()
