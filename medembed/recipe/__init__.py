"""What a recipe may say: frozen, strict models of its sections, `DatasetRecipe` and `ModelRecipe`. `recipe_file.load` reads one.

One recipe makes one published artifact. Imports neither torch nor any library of the Hub.
"""

from medembed.recipe.common import (
    UNCHECKED_PATHS,
    Model,
    Publish,
    Source,
    Weights,
    is_local,
)
from medembed.recipe.dataset import (
    Corpus,
    DatasetRecipe,
    Decontaminate,
    Duplicates,
    Filter,
    Generate,
    Generic,
    Judge,
    Length,
    Mine,
    Notes,
    Pairs,
    Passages,
    Phi,
    Price,
    QueryType,
    Ray,
    RoundTrip,
    Slurm,
    Split,
    Teacher,
)
from medembed.recipe.model import (
    Averaging,
    Data,
    Development,
    Endpoint,
    Evaluate,
    Export,
    Guide,
    Lora,
    Losses,
    ModelRecipe,
    Train,
)

Recipe = DatasetRecipe | ModelRecipe


def contradictions(dataset: DatasetRecipe, model: ModelRecipe) -> list[tuple[str, str]]:
    """What a model's recipe says that cannot be true with the recipe of its dataset: (key of the model's recipe, what)."""
    found = []
    if dataset.name == model.name:
        found.append(("name", "the dataset's recipe has the same name: they would share a run folder"))
    if dataset.publish.folder and dataset.publish.folder == model.publish.folder:
        found.append(("publish.folder", "the dataset is published to the same folder"))
    if model.data.config == "triplets" and dataset.mine is None:
        found.append(("data.config", "the dataset's recipe has no section `mine`: say `pairs`"))
    if dataset.mine and (model.train.negatives or 0) > dataset.mine.negatives:
        found.append(("train.negatives", f"the dataset's recipe mines {dataset.mine.negatives} a row"))
    if model.train.development and "dev" in model.train.development.tasks and not dataset.split.dev:
        found.append(("train.development", "the dataset's recipe splits off no dev rows: `split: {dev: 0.05}`"))
    if model.train.losses.taught and dataset.mine and not dataset.mine.teacher:
        found.append(
            ("train.losses", "`distil` and `margin_mse` need scores: the dataset's recipe has no `mine.teacher`")
        )
    return found


__all__ = [
    "UNCHECKED_PATHS",
    "Averaging",
    "Corpus",
    "Data",
    "DatasetRecipe",
    "Decontaminate",
    "Development",
    "Duplicates",
    "Endpoint",
    "Evaluate",
    "Export",
    "Filter",
    "Generate",
    "Generic",
    "Guide",
    "Judge",
    "Length",
    "Lora",
    "Losses",
    "Mine",
    "Model",
    "ModelRecipe",
    "Notes",
    "Pairs",
    "Passages",
    "Phi",
    "Price",
    "Publish",
    "QueryType",
    "Ray",
    "Recipe",
    "RoundTrip",
    "Slurm",
    "Source",
    "Split",
    "Teacher",
    "Train",
    "Weights",
    "contradictions",
    "is_local",
]
