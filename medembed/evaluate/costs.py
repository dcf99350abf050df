"""What a model costs beside what it scores: its size, its speed, the size of its index, and its quality when that is made smaller.

In: a model, and the same as mteb encodes with it. Out: facts that are the same on every run, and figures that are not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medembed.evaluate import efficiency
from medembed.evaluate.compressed import Embedded, Form, forms, quality
from medembed.evaluate.endpoints import EndpointModel
from medembed.evaluate.scores import AT_ONCE
from medembed.evaluate.vectors import Remembering
from medembed.recipe import Evaluate
from medembed.rows import passage_input
from medembed.tasks import task_name

if TYPE_CHECKING:
    from mteb.abstasks.retrieval import AbsTaskRetrieval


@dataclass(frozen=True)
class Costs:
    """`facts` are the same on every run, `speed` is not; `by_form` is nDCG@10, a mean over the tasks, of models with one vector a text."""

    facts: dict[str, Any]
    speed: dict[str, Any]
    by_form: dict[Form, float]


def costs_of(encoder: Any, evaluate: Evaluate, cut: list[int]) -> Costs:
    """Look at a model on the tasks, as mteb encodes with it. `cut`: numbers of dimensions that embeddings are also cut to.

    The speed of an endpoint is that of another machine, and is not told; of what is no model of sentence-transformers nothing is.
    """
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    from medembed.tasks import registry

    model: Any = getattr(encoder, "model", None)  # BM25 has none
    model = model.plain if isinstance(model, Remembering) else model
    served = isinstance(model, EndpointModel)
    if not served and not efficiency.is_known(model):
        return Costs({}, {}, {})
    facts = {"dimensions": model.width(), "vectors": "one a text"} if served else efficiency.sizes(model)
    index: dict[str, Any] = {}
    by_task: dict[str, dict[Form, float]] = {}
    for task in evaluate.tasks:
        loaded = registry.load(task, evaluate.languages)
        if not isinstance(loaded, AbsTaskRetrieval):  # clustering has no index
            continue
        if facts["vectors"] == "one a text" and _ranks_all(loaded):
            stored = forms(facts["dimensions"], cut, evaluate.quantised)
            found = [{form: quality(part, form) for form in stored} for part in _parts(encoder, loaded)]
            by_task[task_name(task)] = {form: float(np.mean([of[form] for of in found])) for form in stored}
        passages = _passages(loaded)
        vectors = efficiency.vectors(model, passages, evaluate.batch_size)
        bytes_in_all = 4 * facts["dimensions"] * vectors
        index[task_name(task)] = {"passages": len(passages), "vectors": vectors, "bytes": bytes_in_all}
    mean = {form: float(np.mean([of[form] for of in by_task.values()])) for form in next(iter(by_task.values()), {})}
    compressed = [
        {
            "dimensions": form.dimensions,
            "precision": form.name,
            "bytes": form.bytes,
            "tasks": {task: round(of[form], 6) for task, of in by_task.items()},
            "average": round(score, 6),
        }
        for form, score in mean.items()
    ]
    facts |= {"index": index, "compressed": compressed}
    return Costs(facts, {} if served else efficiency.speed(model), mean)


def _ranks_all(task: "AbsTaskRetrieval") -> bool:
    """Whether all passages are ranked, and not those that were found before."""
    return not any(data.get("top_ranked") for splits in task.dataset.values() for data in splits.values())


def _parts(encoder: Any, task: "AbsTaskRetrieval") -> Iterator[Embedded]:
    """Each part of a task, embedded as mteb would have it: prompts and all."""
    from mteb.models.model_meta import ScoringFunction
    from mteb.types import PromptType

    for subset, splits in task.dataset.items():
        for split, data in splits.items():
            where = {"task_metadata": task.metadata, "hf_split": split, "hf_subset": subset}
            yield Embedded(
                queries=_embedded(encoder, data["queries"], PromptType.query, where),
                passages=_embedded(encoder, data["corpus"], PromptType.document, where),
                query_ids=list(data["queries"]["id"]),
                passage_ids=list(data["corpus"]["id"]),
                judgments=data["relevant_docs"],
                ignore_identical_ids=task.ignore_identical_ids,
                normalised=encoder.mteb_model_meta.similarity_fn_name != ScoringFunction.DOT_PRODUCT,
            )


def _embedded(encoder: Any, rows: Any, side: Any, where: dict[str, Any]) -> Any:
    from mteb._create_dataloaders import create_dataloader

    loader = create_dataloader(rows, task_metadata=where["task_metadata"], prompt_type=side, batch_size=AT_ONCE)
    asked = {"batch_size": AT_ONCE, "show_progress_bar": False}  # as `measure` asks, so that what is kept is found
    found = encoder.encode(loader, **where, prompt_type=side, **asked)
    return np.asarray(found.cpu() if hasattr(found, "cpu") else found, np.float32)


def _passages(task: "AbsTaskRetrieval") -> list[str]:
    """The texts of all parts; passages that several parts have, by their ids and texts, count once."""
    passages = {
        (row["id"], passage_input(row.get("title"), row["text"]))
        for splits in task.dataset.values()
        for data in splits.values()
        for row in data["corpus"]
    }
    return [text for _, text in sorted(passages)]
