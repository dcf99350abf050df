"""The recipe of a model: a base and triplets → a better model, and the proof. Its sections are named as the stages are."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from medembed.recipe.common import Count, Model, Name, PathOrHub, Publish, Share, Strict, Url, hub_id, is_local

Weight = Annotated[float, Field(ge=0)]


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


class Losses(Strict):
    """What is minimised: a weighted sum over the embeddings of one batch, each text of which is embedded once.

    Contrastive and distil are equally strong at equal weights; margin_mse, whose pull has no bound, wants a smaller one.
    """

    contrastive: Weight = 0  # InfoNCE over in-batch and hard negatives: multiple negatives ranking
    distil: Weight = 0  # KL divergence from the teacher's distribution over a row's positive and negatives
    margin_mse: Weight = 0  # squared error of the teacher's margins between positive and negatives

    @model_validator(mode="after")
    def _learns(self) -> "Losses":
        if not (self.contrastive or self.distil or self.margin_mse):
            raise ValueError("all weights are 0: nothing would be learned")
        return self

    @property
    def taught(self) -> bool:
        """Whether a teacher's scores are learned from."""
        return bool(self.distil or self.margin_mse)


class Guide(Strict):
    """A model that says which in-batch negatives may be answers: those as close to the query as its positive (GIST)."""

    model: Model
    relative_margin: Annotated[float, Field(ge=0, lt=1)] = 0.0  # left out: above (1 - margin) × the positive's score


class Averaging(Strict):
    """Weights that are tried beside the best checkpoint's: means of checkpoints, and mixtures with the base's."""

    checkpoints: Count = 1  # the last ones, averaged (model soup)
    base: list[Annotated[float, Field(ge=0, lt=1)]] = [0.0]  # shares of the base (LM-Cocktail); the best is kept


class Development(Strict):
    """Which weights are kept: those that rank best on data that is none of the evaluation tasks."""

    tasks: Annotated[list[PathOrHub], Field(min_length=1)] = ["dev"]  # the dataset's dev split; or as in `evaluate`
    steps: Count | None = None  # measured every so many: a multiple of `save_steps`; every checkpoint when none
    queries: Count = 1000  # at most
    passages: Count = 10_000  # among which they are looked for, at most; what answers them is always there
    averaging: Averaging = Averaging()

    @property
    def others(self) -> list[str]:
        """The tasks that are not the dataset's dev split."""
        return [task for task in self.tasks if task != "dev"]


class Lora(Strict):
    """Low-rank adapters are trained and merged into the weights at the end: little memory for gradients and optimizer."""

    rank: Count = 16
    alpha: Count = 32
    dropout: Share = 0.0


class Train(Strict):
    """Triplets → checkpoint."""

    method: Literal["dense", "late-interaction"] = "dense"  # one vector a text, or one a token (ColBERT)
    losses: Losses = Losses(contrastive=1)
    negatives: Annotated[int, Field(ge=0)] | None = None  # hard negatives used of each row; all when none
    temperature: Annotated[float, Field(gt=0, le=1)] = 0.05  # divides similarities, which lie in [-1, 1]
    teacher_temperature: Annotated[float, Field(gt=0)] = 1.0  # divides the teacher's logits
    symmetric: bool = False  # each positive also has to find its query
    guide: Guide | None = None
    matryoshka: list[Count] = []  # dimensions that must rank well alone; the model's own is always one
    batch_size: Annotated[int, Field(ge=2)] = 64  # global: over all processes
    # Texts of full length that go through the model at once (GradCache), of shorter ones more; memory only, no effect on the result.
    mini_batch_size: Count = 32
    accumulation: Count = 1  # batches a step; more queries a step, but no more negatives a query
    max_length: Count | None = None  # tokens in training; the base's when none
    truncated: Share = 0.2  # share of the texts that `max_length` may cut without a warning
    epochs: Annotated[float, Field(gt=0)] = 1
    max_steps: Count | None = None
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 2e-5
    warmup: Share = 0.1  # share of the steps
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    activation_checkpointing: bool = False
    compile: bool = False  # torch.compile
    lora: Lora | None = None
    development: Development | None = None
    save_steps: Count = 200
    checkpoint_branch: str | None = None  # of `publish.repo`: checkpoints are pushed there as they are written
    report_to: list[Literal["tensorboard", "trackio", "wandb"]] = []
    seed: int = 42

    @model_validator(mode="after")
    def _is_measured_where_it_is_saved(self) -> "Train":
        if self.development and self.development.steps and self.development.steps % self.save_steps:
            raise ValueError("`development.steps` is no multiple of `save_steps`: only checkpoints are measured")
        return self

    @model_validator(mode="after")
    def _fits_its_losses(self) -> "Train":
        for name in ("symmetric", "guide"):
            if getattr(self, name) and not self.losses.contrastive:
                raise ValueError(f"`{name}` belongs to the contrastive loss, whose weight is 0")
        if self.losses.taught and self.negatives == 0:
            raise ValueError("`distil` and `margin_mse` compare a row's passages: they need `negatives`")
        if self.teacher_temperature != 1 and not self.losses.taught:
            raise ValueError("`teacher_temperature` belongs to `distil` and `margin_mse`, whose weights are 0")
        if self.matryoshka and self.method == "late-interaction":
            raise ValueError("`matryoshka` shortens the embedding of a text; late interaction has one for each token")
        if len(set(self.matryoshka)) < len(self.matryoshka):
            raise ValueError("`matryoshka` names a dimension twice")
        return self


class Endpoint(Strict):
    """An embedding model behind an endpoint. The tasks' queries and passages are sent there: they leave this machine."""

    endpoint: Url
    kind: Literal["openai", "tei"] | None = (
        None  # /v1/embeddings, or text-embeddings-inference's /embed; asked when none
    )
    model: Annotated[str, Field(min_length=1)] | None = None  # as the server calls it; the one it serves when none
    prompts: dict[Literal["query", "passage"], str] = {}  # put before the texts


# Told apart by the key, so that a fault of an endpoint is told as one, and not as that of a model.
Peer = Annotated[
    Annotated[Model, Tag("model")] | Annotated[Endpoint, Tag("endpoint")],
    Discriminator(lambda value: "endpoint" if _names_an_endpoint(value) else "model"),
]


def _names_an_endpoint(value: Any) -> bool:
    return isinstance(value, Endpoint) or (isinstance(value, dict) and "endpoint" in value)


class Evaluate(Strict):
    """Checkpoint → results: mteb's tasks by name, local BEIR folders by path. The base is measured by the same command."""

    tasks: Annotated[list[PathOrHub], Field(min_length=1)]
    compare: list[Peer] = []  # other models, measured on the same tasks
    languages: list[str] = ["eng"]
    batch_size: Count = 32
    dimensions: list[Count] | None = None  # that embeddings are also cut to; those of `train.matryoshka` when none
    quantised: list[Literal["int8", "binary"]] = ["int8", "binary"]  # precisions that passages are also stored in
    resamples: Annotated[int, Field(ge=100)] = 10_000  # of the paired bootstrap
    seed: int = 42


class Export(Strict):
    """Model → files for other runtimes. What loses more than is allowed here stays in the run folder."""

    formats: Annotated[
        list[Literal["onnx", "onnx-optimised", "onnx-int8", "openvino", "openvino-int8"]], Field(min_length=1)
    ]
    # Of int8; those of fp32 must be the same but for rounding.
    cosine: Annotated[float, Field(gt=0, le=1)] = 0.98  # with the model's own embeddings, at least, in the mean
    ndcg_loss: Share = 0.01  # of nDCG@10 (0 to 1) on the smallest local task, at most

    @model_validator(mode="before")
    @classmethod
    def _by_formats(cls, value: Any) -> Any:
        return {"formats": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _each_once(self) -> "Export":
        if len(set(self.formats)) < len(self.formats):
            raise ValueError("`formats` names one twice")
        return self


class ModelRecipe(Strict):
    """A base and triplets → a better model, and the proof."""

    kind: Literal["model"]
    name: Name
    base: Model
    data: Data
    train: Train = Train()
    evaluate: Evaluate
    export: Export | None = None
    publish: Publish

    @property
    def models(self) -> list[Model]:
        """All models that the recipe names."""
        return [self.base, *([self.train.guide.model] if self.train.guide else [])]

    @property
    def cut_to(self) -> list[int]:
        """The dimensions that embeddings are also measured at."""
        return self.train.matryoshka if self.evaluate.dimensions is None else self.evaluate.dimensions

    @model_validator(mode="after")
    def _fits(self) -> "ModelRecipe":
        if self.export and self.train.method == "late-interaction":
            raise ValueError(
                "`export` writes one embedding a text, and late interaction has one for each token: drop `export`"
            )
        if self.train.checkpoint_branch and not self.publish.repo:
            raise ValueError("`train.checkpoint_branch` is a branch of `publish.repo`, and there is none")
        if self.train.checkpoint_branch == "main":
            raise ValueError("`train.checkpoint_branch`: `main` is for the finished model")
        if self.train.checkpoint_branch and self.train.lora:
            raise ValueError(
                "`train.checkpoint_branch` would get the adapters of `train.lora` alone, which load on this machine alone: "
                "drop one of the two"
            )
        if self.data.config == "pairs" and self.train.negatives:
            raise ValueError("`data.config: pairs` has no hard negatives: drop `train.negatives`, or use triplets")
        if self.data.config == "pairs" and self.train.losses.taught:
            raise ValueError(
                "`data.config: pairs` has no teacher's scores: use triplets, or the contrastive loss alone"
            )
        if self.base.max_length and (self.train.max_length or 0) > self.base.max_length:
            raise ValueError(
                "`train.max_length` is above `base.max_length`: the model would never see that much in use"
            )
        development = self.train.development.others if self.train.development else []
        if both := sorted(set(development) & set(self.evaluate.tasks)):
            raise ValueError(
                f"`train.development.tasks` has {', '.join(both)}: the model would be chosen on its own test"
            )
        return self
