"""The recipe of a dataset: notes, labelled pairs or both → triplets. Its sections are named as the stages are."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from medembed import resources
from medembed.recipe.common import Count, Model, Name, PathOrHub, Publish, Share, Source, Strict, Url, hub_id, is_local

QueryType = Literal["keyword", "question", "treatment", "lay", "shorthand", "comparison"]
Margin = Annotated[float, Field(gt=0, le=1)]


class Notes(Source):
    """Clinical notes: columns `id`, `text` and, where there is one, `title`."""

    required = ("id", "text")
    optional = ("title",)


class Pairs(Source):
    """Labelled pairs: columns `query`, `positive` and, where there are such, `title`, `query_type`, `evidence`, `note_id`.

    A `query_type` that `generate.queries` knows is kept; any other becomes `labelled`, for it may name somebody.
    """

    required = ("query", "positive")
    optional = ("title", "query_type", "evidence", "note_id")


class Corpus(Source):
    """Passages besides those of notes and pairs, for negatives: columns `text` and, where there are such, `title`, `note_id`."""

    required = ("text",)
    optional = ("title", "note_id")


# ---- generate --------------------------------------------------------------------------------------------------------


class InTokens(Strict):
    """Settings in tokens."""

    tokenizer: PathOrHub | None = None  # that counts them: a Hub id or a local folder; our estimate when none
    revision: str | None = None  # of the tokenizer

    @model_validator(mode="after")
    def _names_a_tokenizer(self) -> Self:
        if self.tokenizer is None or is_local(self.tokenizer):
            if self.revision:
                raise ValueError("`revision` belongs to a tokenizer on the Hub")
        else:
            hub_id(self.tokenizer)
        return self


class Passages(InTokens):
    """How notes are cut: by headings, then by sentences, into passages of at most `max_tokens`."""

    max_tokens: Annotated[int, Field(ge=32)] = 192
    min_tokens: Annotated[int, Field(ge=1)] = 24  # a shorter section joins the next one
    overlap: Annotated[int, Field(ge=0)] = 1  # sentences that a cut section's passages share

    @model_validator(mode="after")
    def _fits(self) -> "Passages":
        if self.min_tokens > self.max_tokens:
            raise ValueError("min_tokens is above max_tokens")
        return self


class Price(Strict):
    """What a million tokens cost, in the currency of your choice: for the display and the dry run alone."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]


class Slurm(Strict):
    """What `--executor slurm` asks for, for each task."""

    partition: str
    time: Annotated[str, Field(pattern=r"^(\d+-)?\d{1,2}(:\d{2}){1,2}$")] = "24:00:00"
    cpus: Count = 2
    memory: Count = 4  # GiB for each CPU
    most: Count | None = None  # tasks at the same time; all when none
    before: str | None = None  # a shell line that makes medembed available: `source .venv/bin/activate`
    options: dict[str, str] = {}  # of sbatch, as they are: {account: …, qos: …}


class Ray(Strict):
    """What `--executor ray` asks for, for each task."""

    cpus: Count = 1
    memory: Count = 2  # GiB for each CPU
    most: Count | None = None  # tasks at the same time; as many as the cluster has room for when none


class Generate(Strict):
    """Notes → pairs, by an LLM behind a text-generation-inference endpoint."""

    endpoints: list[Url] = []
    recorded: PathOrHub | None = None  # a journal of replies: where no endpoint is named, it answers
    prompt: str = "clinical-queries-v1"
    queries: Annotated[dict[QueryType, Count], Field(min_length=1)] = {"keyword": 2, "question": 2, "treatment": 2}
    enforcement: Literal["required", "validate-only"] = Field(
        "required", alias="schema"
    )  # of the JSON schema, by the server
    passages: Passages = Passages()
    max_note_tokens: Count | None = (
        None  # of a note in its request, the rest is left out, and counted; by the server's limits when none
    )
    limit: Count | None = None  # notes from the beginning, to try a recipe; all when none
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    max_tokens: Count = 2048  # of a reply; one that is cut off there is asked for once more, with twice as many
    seed: int = 42
    concurrency: Count | None = None  # most requests in flight at an endpoint; what the server says it takes when none
    timeout: Annotated[float, Field(gt=0)] = 300  # seconds for one request
    attempts: Count = 5  # for a request that fails in passing
    patience: Annotated[float, Field(ge=0)] = 600  # seconds that all endpoints may be away before the run stops
    price: Price | None = None
    store: str | None = None  # where shards keep their journals: any path of fsspec (s3://…); the run folder when none
    slurm: Slurm | None = None
    ray: Ray = Ray()

    @model_validator(mode="after")
    def _someone_answers(self) -> "Generate":
        if not self.endpoints and self.recorded is None:
            raise ValueError("nobody would answer: name `endpoints`, or a journal of `recorded` replies")
        if self.prompt not in (known := resources.prompts()):
            raise ValueError(f"no prompt {self.prompt!r}; there are {', '.join(known)}")
        return self


# ---- curate ----------------------------------------------------------------------------------------------------------


class Duplicates(Strict):
    """Of rows that say the same, the first stays. `near` is the Jaccard similarity of word 3-grams from which two texts are one."""

    near: Annotated[float, Field(ge=0.3, le=1)] | None = None  # equal text alone when none
    normalised: bool = True  # case, white space and punctuation aside
    of: Annotated[list[Literal["pairs", "queries", "passages"]], Field(min_length=1)] = ["pairs"]


class Length(InTokens):
    """Tokens that a query and a positive may have: [least, most]."""

    query: tuple[Count, Count] = (2, 96)
    positive: tuple[Count, Count] = (8, 512)

    @model_validator(mode="after")
    def _in_order(self) -> "Length":
        if self.query[0] > self.query[1] or self.positive[0] > self.positive[1]:
            raise ValueError("the least is above the most")
        return self


class RoundTrip(Strict):
    """The retriever must find the positive among the best `top_k` passages for the query."""

    retriever: Model
    top_k: Count = 20
    reranker: Model | None = None  # a cross-encoder, which must give the pair at least `min_score`
    min_score: Margin | None = None  # from 0 to 1: the sigmoid of what it says

    @model_validator(mode="after")
    def _complete(self) -> "RoundTrip":
        if (self.reranker is None) != (self.min_score is None):
            raise ValueError("`reranker` and `min_score` belong together")
        return self


class Generic(Strict):
    """No query that could fit any note: less than `share` of the other passages answer it better than its own, or are asked it too."""

    retriever: Model
    share: Margin = 0.05


class Phi(Strict):
    """The gate for personal health information, over passages, titles, queries and evidence."""

    policy: Literal["report", "redact", "block"]
    model: str | None = None  # an installed spaCy model that finds names; patterns alone when none


class Decontaminate(Strict):
    """No text of an evaluation task among passages or queries. `default`: the headline's five and MTEB(Medical, v1).

    Eight words are what open-r1 takes. Where a task's texts are made from templates, eight are often boilerplate: `boilerplate: 3` lets
    pass what stands in three of its own texts or more. Of MedQuAD's 12,159 passages 8,058 share eight words with its own test set, and so
    6,137; they share twenty words in 4,807 cases, and so in 2,608.
    """

    tasks: Annotated[list[PathOrHub], Field(min_length=1)] = ["default"]
    ngram: Annotated[int, Field(ge=3)] = 8  # words in a row that no evaluation text may share
    boilerplate: Annotated[int, Field(ge=2)] | None = (
        None  # texts of a task that share an n-gram, from which it does not count
    )
    near: Margin | None = None  # cosine from which a text counts as one of the task's; not looked at when none
    retriever: Model | None = None  # whose embeddings `near` compares

    @model_validator(mode="after")
    def _complete(self) -> "Decontaminate":
        if (self.near is None) != (self.retriever is None):
            raise ValueError("`near` and `retriever` belong together")
        return self


class Filter(Strict):
    """One filter of the list under `curate`: its name, or its name with settings."""

    evidence: Literal[True] | None = None  # the evidence, where there is one, stands in the positive verbatim
    duplicates: Duplicates | None = None
    length: Length | None = None
    language: Annotated[list[str], Field(min_length=1)] | None = None  # ISO 639-1 codes of those that stay
    copies: Margin | None = None  # a query most of which (this share of its words, in a row) stands in the positive
    generic: Generic | None = None
    round_trip: RoundTrip | None = None
    phi: Phi | None = None
    decontaminate: Decontaminate | None = None

    BARE: ClassVar[dict[str, Any]] = {
        "evidence": True,
        "duplicates": {},
        "length": {},
        "language": ["en"],
        "copies": 0.9,
        "phi": {"policy": "redact"},
        "decontaminate": {},
    }
    SHORT: ClassVar[dict[tuple[str, str], Any]] = {
        ("duplicates", "exact"): {"normalised": False},
        ("duplicates", "normalised"): {},
        ("phi", "report"): {"policy": "report"},
        ("phi", "redact"): {"policy": "redact"},
        ("phi", "block"): {"policy": "block"},
        ("decontaminate", "default"): {},
    }

    @property
    def name(self) -> str:
        return next(iter(self.model_fields_set))

    @property
    def models(self) -> list[Model | None]:
        return [
            *(each.retriever for each in (self.generic, self.round_trip, self.decontaminate) if each),
            self.round_trip.reranker if self.round_trip else None,
        ]

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if isinstance(value, str) and value in cls.BARE:
            return {value: cls.BARE[value]}
        if isinstance(value, str) and value in cls.model_fields:
            raise ValueError(f"`{value}` needs settings: `{value}: {{retriever: …}}`")
        if isinstance(value, dict) and (set_ := {key: item for key, item in value.items() if item is not None}):
            (key, item), *more = set_.items()
            if not more and key in cls.model_fields:
                return {key: cls._meant(key, item) if isinstance(item, str) else item}
        raise ValueError(f"a filter is one of {', '.join(cls.model_fields)}, alone or with its settings")

    @classmethod
    def _meant(cls, name: str, said: str) -> Any:
        """The settings that a single word stands for."""
        known = [word for filter_, word in cls.SHORT if filter_ == name]
        if known and said not in known:
            raise ValueError(
                f"`{name}: {said}` is not known; a word for it is {' or '.join(known)}, else name its settings"
            )
        return cls.SHORT.get((name, said), said)


class Split(Strict):
    """Which share of the notes is held back for development; a note's rows stay together."""

    dev: Share = 0.0
    seed: int = 42


# ---- mine ------------------------------------------------------------------------------------------------------------


class Teacher(Strict):
    """A cross-encoder that scores positives and negatives; its logits are kept for distillation."""

    model: Model
    relative_margin: Margin | None = None  # a negative's probability (sigmoid) lies below this share of the positive's
    batch_size: Count = 32


class Judge(Strict):
    """The servers under `generate.endpoints`, asked whether a suspicious negative answers the query.

    A recipe of pairs alone has no `generate`, and so no judge.
    """

    above: Margin = 0.85  # suspicious: the negative's score, as a share of the positive's
    prompt: Literal["judge-v1"] = "judge-v1"
    answers: Literal["drop", "relabel"] = (
        "drop"  # a negative that answers: leave it out, or make it a positive of its own
    )


# Told apart by the word, so that a fault of a model is told as one, and not as «no bm25».
Retriever = Annotated[
    Annotated[Model, Tag("embeddings")] | Annotated[Literal["bm25"], Tag("bm25")],
    Discriminator(lambda value: "bm25" if value == "bm25" else "embeddings"),
]


class Mine(Strict):
    """Pairs → triplets: hard negatives from the passage corpus."""

    retriever: Annotated[list[Retriever], Field(min_length=1, max_length=2)]  # two: ranks fused
    negatives: Annotated[int, Field(ge=1, le=100)] = 4
    ranks: tuple[Count, Count] = (1, 50)  # the window of ranks that negatives are taken from
    relative_margin: Margin | None = 0.95  # a negative scores below this share of the positive's score
    absolute_margin: Annotated[float, Field(ge=0)] | None = None  # and at least so much below it
    min_score: float | None = None
    max_score: float | None = None
    near_duplicate: Margin | None = 0.8  # none so like a positive of the query (Jaccard similarity of word 3-grams)
    exclude_note: bool = False  # no negative from a note of the query's positives
    sampling: Literal["top", "random", "spread"] = "top"  # which of the candidates that are left
    fewer: Literal["drop", "keep", "fill"] = (
        "drop"  # a row that found fewer: reject it, keep it as it is, or fill it up at random, within all bounds but `ranks`
    )
    teacher: Teacher | None = None
    judge: Judge | None = None
    exact_up_to: Count = 2_000_000  # passages; beyond it an approximate index (FAISS) searches
    batch_size: Count = 32
    seed: int = 42

    @model_validator(mode="before")
    @classmethod
    def _one_retriever(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("retriever"), str | dict):
            return value | {"retriever": [value["retriever"]]}
        return value

    @model_validator(mode="after")
    def _enough_candidates(self) -> "Mine":
        first, last = self.ranks
        if last - first + 1 < self.negatives:
            raise ValueError(f"ranks {first} to {last} hold fewer candidates than negatives: no row could find enough")
        if len(self.retriever) != len({str(each) for each in self.retriever}):
            raise ValueError("the same retriever twice")
        return self

    @property
    def dense(self) -> Model | None:
        """The embedding model among the retrievers."""
        return next((each for each in self.retriever if isinstance(each, Model)), None)


class DatasetRecipe(Strict):
    """Notes, labelled pairs or both → triplets."""

    kind: Literal["dataset"]
    name: Name
    notes: list[Notes] = []
    generate: Generate | None = None
    pairs: list[Pairs] = []
    corpus: list[Corpus] = []
    curate: list[Filter] = [
        Filter(evidence=True),
        Filter(duplicates=Duplicates()),
        Filter(length=Length()),
    ]
    split: Split = Split()
    mine: Mine | None = None
    publish: Publish

    @model_validator(mode="after")
    def _has_rows(self) -> "DatasetRecipe":
        if not self.notes and not self.pairs:
            raise ValueError("nothing to start from: name `notes`, `pairs` or both")
        if bool(self.notes) != (self.generate is not None):
            raise ValueError("`notes` and `generate` belong together")
        if self.mine and self.mine.judge and not self.generate:
            raise ValueError(
                "`mine.judge` asks the servers of `generate`, which a recipe of pairs alone has not: leave it out"
            )
        if self.mine and self.mine.judge and self.generate and not self.generate.endpoints:
            raise ValueError("`mine.judge` asks the servers under `generate.endpoints`: name some")
        if self.publish.ask:
            raise ValueError("`publish.ask` belongs to a model's recipe: a dataset answers no query")
        filters = [each.name for each in self.curate]
        for once in ("phi", "decontaminate"):
            if filters.count(once) > 1:
                raise ValueError(f"the filter `{once}` stands twice under `curate`: name all its settings in one place")
        redacts = any(each.phi and each.phi.policy == "redact" for each in self.curate)
        if redacts and "decontaminate" in filters[filters.index("phi") :]:
            raise ValueError("put `decontaminate` before `phi: redact`: surrogates hide what texts share with a task")
        return self

    @property
    def sources(self) -> list[Source]:
        """All sources of rows."""
        return [*self.notes, *self.pairs, *self.corpus]

    @property
    def models(self) -> list[Model]:
        """All models that filters and mining name, each once."""
        named = [model for each in self.curate for model in each.models]
        if self.mine:
            named += [self.mine.dense, self.mine.teacher.model if self.mine.teacher else None]
        return list({str(model): model for model in named if model}.values())
