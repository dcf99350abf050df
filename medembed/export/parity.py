"""What an export loses: its embeddings against the model's own, text by text, and what it ranks with them.

The texts are ours, of every length and kind, and some of the recipe's smallest local task; nDCG@10 is measured on that task by the same
code as `evaluate`'s. A recipe without a local task is held to the cosines alone. Files for other processors are measured on this one,
where sums of 8-bit products may overflow: what they lose there is no more.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medembed.evaluate.scores import measure
from medembed.models import Resolved
from medembed.recipe import Export, ModelRecipe, is_local
from medembed.rows import passage_input
from medembed.run import Run
from medembed.tasks import beir, task_name

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

OF_TASK = 64  # queries, and as many passages, whose embeddings are compared
FP32_COSINE, FP32_NDCG_LOSS = 0.9999, 0.001  # what rounding may change: the least cosine of any text
SENTENCES = (
    "",
    " ",
    "fever",
    "BP 142/91, HR 88, T 38.4 °C",
    "chest pain that spreads to the left arm",
    "How is iron deficiency anaemia treated in pregnancy?",
    "Metformin is the first-line drug for type 2 diabetes.",
    "no fever, no cough, lungs clear on both sides",
    "Na⁺ 128 mmol/l → 0.9 % NaCl i.v.; β-blocker paused, Ångström's naïve façade",
    "患者は胸痛を訴えている。 Пациент жалуется на боль в груди. المريض يعاني من ألم في الصدر",
    "😷🤒 \u200d\ufeff \x00 \t\n",
    "pneumonoultramicroscopicsilicovolcanoconiosis" * 8,
    "Started on furosemide, fluid restricted, weighed daily; potassium and creatinine checked on day three. " * 4,
    "Discharged home. " * 400,
)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class References:
    """What the model itself makes of the texts, each (N, D), and the task that exports are measured on, if there is a local one."""

    queries: list[str]
    passages: list[str]
    of_queries: Floats
    of_passages: Floats
    task: str | None
    ndcg: float  # the model's, on that task


def references(model: "SentenceTransformer", recipe: ModelRecipe, run: Run) -> References:
    measured = run.finished("evaluate").facts["tasks"]
    local = [task for task in recipe.evaluate.tasks if is_local(task)]
    task = min(local, key=lambda it: (measured[task_name(it)]["passages"], it), default=None)
    queries, passages = list(SENTENCES), list(SENTENCES)
    if task:
        data = beir.read(Path(task))
        queries += list(data.queries.values())[:OF_TASK]
        passages += [passage_input(title, text) for title, text in list(data.passages.values())[:OF_TASK]]
    ndcg = measured[task_name(task)]["ndcg_at_10"]["tuned"] if task else 0.0
    return References(queries, passages, model.encode_query(queries), model.encode_document(passages), task, ndcg)


def compare(
    export: "SentenceTransformer", content: str, to: References, recipe: ModelRecipe, run: Run
) -> dict[str, Any]:
    """`cosine` (mean, min) and `ndcg_at_10` (task → original, exported) of the export whose file has the hash `content`."""
    cosines = np.concatenate(
        [
            _cosines(export.encode_query(to.queries), to.of_queries),
            _cosines(export.encode_document(to.passages), to.of_passages),
        ]
    )
    told = {"cosine": {"mean": round(float(cosines.mean()), 6), "min": round(float(cosines.min()), 6)}}
    if to.task is None:
        return told | {"ndcg_at_10": {}}
    evaluate = recipe.evaluate.model_copy(update={"tasks": [to.task]})
    found = measure(export, Resolved(recipe.name, content[:40], ""), evaluate, run.folder / "measured")
    name = task_name(to.task)
    scores = found.tasks[name].scores["ndcg_at_10"].to_numpy()
    return told | {"ndcg_at_10": {name: {"original": round(to.ndcg, 4), "exported": round(float(scores.mean()), 4)}}}


def is_close(told: dict[str, Any], said: Export) -> bool:
    """Whether a file loses no more than it may: fp32 nothing but rounding, int8 what the recipe says."""
    is_fp32 = told["precision"] == "fp32"
    cosine, least = told["cosine"], FP32_COSINE if is_fp32 else said.cosine
    lost = max((task["original"] - task["exported"] for task in told["ndcg_at_10"].values()), default=0.0)
    most = FP32_NDCG_LOSS if is_fp32 else said.ndcg_loss
    return (cosine["min"] if is_fp32 else cosine["mean"]) >= least and lost <= most


def _cosines(ours: Floats, theirs: Floats) -> Floats:
    """(N,) of each embedding with the other of the same text."""
    sizes = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return np.einsum("nd,nd->n", ours, theirs) / np.maximum(sizes, np.finfo(np.float32).tiny)  # type: ignore[no-any-return]
