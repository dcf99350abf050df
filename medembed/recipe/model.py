"""The recipe of a model: a base and triplets → a better model, and the proof. Its sections are named as the stages are."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medembed.recipe.common import Count, Model, Name, PathOrHub, Publish, Share, Strict, hub_id, is_local


class Data(Strict):
    """What is trained on: a Hub repository, a folder with its layout, or the recipe of a dataset (its run folder is used)."""

    dataset: PathOrHub
    revision: str | None = None
    config: Literal["triplets", "pairs"] = "triplets"
    limit: Count | None = None

    @model_validator(mode="after")
    def _names_a_dataset(self) -> "Data":
        if not is_local(self.dataset):
            hub_id(self.dataset)
        elif self.revision:
            raise ValueError("`revision` belongs to a dataset on the Hub; this one is local")
        return self


class Train(Strict):
    """Triplets → checkpoint: cached multiple-negatives ranking loss over in-batch and hard negatives."""

    negatives: Annotated[int, Field(ge=0)] | None = None  # hard negatives used of each row; all when none
    temperature: Annotated[float, Field(gt=0, le=1)] = 0.05
    batch_size: Annotated[int, Field(ge=2)] = 64  # global: over all processes
    mini_batch_size: Count = (
        32  # texts that go through the model at once (GradCache); memory only, no effect on the result
    )
    max_length: Count | None = None  # tokens in training; the base's when none
    epochs: Annotated[float, Field(gt=0)] = 1
    max_steps: Count | None = None
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 2e-5
    warmup: Share = 0.1  # share of the steps
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    save_steps: Count = 200
    seed: int = 42


class Evaluate(Strict):
    """Checkpoint → results: mteb's tasks by name, local BEIR folders by path. The base is measured by the same command."""

    tasks: Annotated[list[PathOrHub], Field(min_length=1)]
    languages: list[str] = ["eng"]
    batch_size: Count = 32
    resamples: Annotated[int, Field(ge=100)] = 10_000  # of the paired bootstrap
    seed: int = 42


class ModelRecipe(Strict):
    """A base and triplets → a better model, and the proof."""

    kind: Literal["model"]
    name: Name
    base: Model
    data: Data
    train: Train = Train()
    evaluate: Evaluate
    publish: Publish

    @model_validator(mode="after")
    def _fits(self) -> "ModelRecipe":
        if self.data.config == "pairs" and self.train.negatives:
            raise ValueError("`data.config: pairs` has no hard negatives: drop `train.negatives`, or use triplets")
        if self.base.max_length and (self.train.max_length or 0) > self.base.max_length:
            raise ValueError(
                "`train.max_length` is above `base.max_length`: the model would never see that much in use"
            )
        return self
