"""One model on tasks: mteb ranks and scores; its results and the scores of every query are kept.

A measurement is one folder, named by the hash of all that decides its scores (model, how it encodes, task content, settings) and
put in its place when it is whole: so it can be taken up again, by any stage and after any kill, and nothing stale comes back.
Embeddings are kept beside the measurements (`vectors`): another task or metric does not make them anew.
"""

import json
import logging
import shutil
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from medembed.errors import all_told
from medembed.evaluate.encoders import Named, Ranker, Registered, as_mteb, settings_of
from medembed.evaluate.endpoints import UNSTATED, Elsewhere
from medembed.evaluate.vectors import Remembering
from medembed.models import Resolved
from medembed.recipe import Evaluate
from medembed.rows import content_id
from medembed.run import replacing
from medembed.tasks import task_content, task_name

if TYPE_CHECKING:
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    from medembed.evaluate.vectors import Encoder

log = logging.getLogger(__name__)

AT_ONCE = 2048  # texts that mteb hands over at once; `vectors` makes batches of them
METRICS = ("ndcg_at_10", "mrr_at_10", "recall_at_10")
SCORES = pa.schema(
    [("part", pa.string()), ("query_id", pa.string()), ("cluster", pa.string()), ("passages", pa.int64())]
    + [(metric, pa.float64()) for metric in METRICS]
)
"""One row a query. `part` is the subset and split of the task, `cluster` the same for queries that hang together (about one note),
`passages` how many there were to rank."""

Ranking = dict[str, float]  # passage id → similarity
Judgments = dict[str, dict[str, int]]  # query id → passage id → grade


@dataclass(frozen=True)
class Measurement:
    """One model on one task: `scores` as the schema above, without a row where a task does not rank (clustering).

    `folder` holds mteb's `results/<org>__<model>/<revision>/`.
    """

    scores: pa.Table
    folder: Path

    @classmethod
    def read(cls, place: Path) -> "Measurement":
        scores = place / "scores.parquet"
        return cls(pq.read_table(scores) if scores.exists() else SCORES.empty_table(), place)

    def results(self) -> Path:
        """mteb's file of results."""
        (path,) = (path for path in self.folder.glob("results/*/*/*.json") if path.name != "model_meta.json")
        return path

    @property
    def parts(self) -> list[NDArray[np.float64]]:
        """The scores of each part of the task: (queries, metrics)."""
        names = self.scores["part"].to_numpy()
        scores = np.stack([self.scores[metric].to_numpy() for metric in METRICS], axis=1)
        return [scores[names == name] for name in dict.fromkeys(names)]

    @property
    def clusters(self) -> list[NDArray[Any]]:
        """Which queries of each part hang together: (queries,)."""
        names, clusters = self.scores["part"].to_numpy(), self.scores["cluster"].to_numpy()
        return [clusters[names == name] for name in dict.fromkeys(names)]

    @property
    def passages(self) -> int:
        """How many passages there were to rank, over all parts."""
        parts = {row["part"]: int(row["passages"]) for row in self.scores.to_pylist()}
        return sum(parts.values())


@dataclass(frozen=True)
class Measured:
    """One model on tasks, by their names."""

    model: Resolved
    tasks: dict[str, Measurement]


def measure(
    model: "Encoder | Named | Registered | Ranker | Elsewhere",
    resolved: Resolved,
    evaluate: Evaluate,
    folder: Path,
    *,
    again: bool = False,
) -> Measured:
    """Measure `model` on each of the tasks; what stands in `folder` already is read, and no model loaded for it.

    `again`: measurements are made anew, of the embeddings that are kept.

    Raises:
        InputError: a task is unknown, its folder faulty, or its data not to be had; the model cannot be loaded.
        RunError: a task's data that was there is so no more.
    """
    places = _places(model, resolved, evaluate, folder)
    if again:
        for place in places.values():
            shutil.rmtree(place, ignore_errors=True)
    if wanted := missing(model, resolved, evaluate, folder):
        from medembed.tasks import registry

        all_told(partial(registry.look, task, evaluate.languages) for task in wanted)
        encoder = encoder_of(model, resolved, evaluate, folder)
        for task in tqdm(wanted, desc="evaluate", unit="task", disable=len(wanted) < 2):
            _measure(encoder, task, evaluate, places[task])
    tasks = {task_name(task): Measurement.read(place) for task, place in places.items()}
    return Measured(resolved, tasks)


def missing(model: Any, resolved: Resolved, evaluate: Evaluate, folder: Path) -> list[str]:
    """The tasks that `model` has not been measured on in `folder`."""
    return [task for task, place in _places(model, resolved, evaluate, folder).items() if not place.exists()]


def _places(model: Any, resolved: Resolved, evaluate: Evaluate, folder: Path) -> dict[str, Path]:
    return {task: folder / _key(model, resolved, task, evaluate) for task in evaluate.tasks}


def _key(model: Any, resolved: Resolved, task: str, evaluate: Evaluate) -> str:
    """The hash of all that decides the scores.

    The model's revision is a commit or the hash of its weights; max length, prompts and modules are not in the weights.
    """
    encoding = model.settings if hasattr(model, "settings") else settings_of(model)
    where = [resolved.path] if resolved.revision == UNSTATED else []  # nothing else tells two servers apart
    task_is = [task_name(task), task_content(task), evaluate.languages, version("mteb"), SCORES.names]
    return content_id(json.dumps([resolved.name, resolved.revision, encoding, task_is, *where]))


def encoder_of(model: Any, resolved: Resolved, evaluate: Evaluate, folder: Path) -> Any:
    """What `measure` is given, loaded, as mteb encodes with it; what was encoded for a measurement in `folder` is read."""
    named = model if isinstance(model, Named | Registered | Elsewhere) else None
    loaded = named.load() if named else model
    return as_mteb(loaded, resolved, named, folder / "embeddings", evaluate.batch_size)


def _measure(encoder: Any, task: str, evaluate: Evaluate, place: Path) -> None:
    """Let mteb rank and score; keep its results and the scores of every query in `place`, all or nothing."""
    import mteb
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    from medembed.tasks import registry

    loaded = registry.load(task, evaluate.languages)
    log.info("evaluate: %s on %s", encoder.mteb_model_meta.name, loaded.metadata.name)
    is_kept = isinstance(getattr(encoder, "model", None), Remembering)  # else mteb's own code makes the batches
    unfinished = place.with_name(f".{place.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    mteb.evaluate(
        encoder,
        loaded,
        cache=mteb.ResultCache(unfinished),
        prediction_folder=unfinished / "predictions",
        encode_kwargs={"batch_size": AT_ONCE if is_kept else evaluate.batch_size, "show_progress_bar": False},
        co2_tracker=False,
        show_progress_bar=False,
    )
    if isinstance(loaded, AbsTaskRetrieval):
        predictions = json.loads((unfinished / "predictions" / loaded.prediction_file_name).read_text(encoding="utf-8"))
        scores = pa.Table.from_pylist(_scores(loaded, predictions), schema=SCORES)
        with replacing(unfinished / "scores.parquet") as temporary:
            pq.write_table(scores, temporary)
    shutil.rmtree(unfinished / "predictions", ignore_errors=True)
    unfinished.rename(place)


def _scores(task: "AbsTaskRetrieval", predictions: dict[str, Any]) -> list[dict[str, Any]]:
    """The scores of every query in every part of `task`, from what mteb saved: subset → split → query id → ranking."""
    from medembed.tasks.registry import LocalTask

    notes = task.notes if isinstance(task, LocalTask) else {}
    rows = []
    for subset, splits in predictions.items():
        if subset == "mteb_model_meta":
            continue
        for split, rankings in splits.items():
            data = task.dataset[subset][split]
            scores = query_scores(rankings, data["relevant_docs"], ignore_identical_ids=task.ignore_identical_ids)
            part = {"part": f"{subset}/{split}", "passages": len(data["corpus"])}
            rows += [
                {**part, "query_id": it, "cluster": notes.get(it, f"query {it}"), **scores[it]} for it in sorted(scores)
            ]
    return rows


def query_scores(
    rankings: dict[str, Ranking], judgments: Judgments, *, ignore_identical_ids: bool
) -> dict[str, dict[str, float]]:
    """query id → metric → score (0 to 1), by trec_eval's rules, as mteb has them.

    `ignore_identical_ids`: a query that is itself a passage (ArguAna) must not find itself.
    """
    import pytrec_eval

    top = {
        query_id: _top_ten({i: score for i, score in ranking.items() if not (ignore_identical_ids and i == query_id)})
        for query_id, ranking in rankings.items()
    }
    ours = {"ndcg_cut_10": "ndcg_at_10", "recip_rank": "mrr_at_10", "recall_10": "recall_at_10"}
    evaluator = pytrec_eval.RelevanceEvaluator(judgments, {"ndcg_cut.10", "recip_rank", "recall.10"})
    return {
        query_id: {ours[metric]: float(score) for metric, score in scores.items()}
        for query_id, scores in evaluator.evaluate(top).items()
    }


def _top_ten(ranking: Ranking) -> Ranking:
    """The ten best; of equals the later id comes first, as trec_eval has it."""
    return dict(sorted(ranking.items(), key=lambda item: (item[1], item[0]), reverse=True)[:10])
