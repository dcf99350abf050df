"""Development data: what checkpoints are compared on. None of it is trained on, and none of it is asked in an evaluation task.

In: `train.development`, which names the dataset's own dev split or tasks as under `evaluate.tasks`. Out: queries, passages and
judgments, a bounded number of them, drawn by hash; and a model's nDCG@10 over them.
"""

import logging
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from medembed import models
from medembed.errors import InputError, all_told
from medembed.recipe import Development, Evaluate, ModelRecipe, is_local
from medembed.rows import content_id, fold, passage_input
from medembed.run import sha256
from medembed.tables import rows
from medembed.tasks import beir, task_content, task_name
from medembed.tasks.texts import texts_of
from medembed.train.data import Found

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer

log = logging.getLogger(__name__)

WHERE = "train.development.tasks"


@dataclass(frozen=True)
class Ranking:
    """Which of the passages answer each query. Ids are hashes of the folded texts: what is the same but for spelling is one."""

    name: str
    queries: dict[str, str]  # id → text
    passages: dict[str, str]
    relevant: dict[str, set[str]]  # query id → passage ids


def check(recipe: ModelRecipe) -> None:
    """Look at the development tasks before anything starts: local folders are read, other names looked up in mteb.

    Raises:
        InputError: with all that is wrong in all of them; one of them asks what an evaluation task asks, both being folders.
    """
    from medembed.evaluate import check_tasks

    if not (tasks := recipe.train.development.others if recipe.train.development else []):
        return
    try:
        check_tasks(recipe.evaluate.model_copy(update={"tasks": tasks}))
    except InputError as error:
        faults = (replace(fault, where=fault.where.replace("evaluate.tasks", WHERE)) for fault in error.faults)
        raise InputError(*faults) from error
    evaluated = {query for task in recipe.evaluate.tasks if is_local(task) for query in _asked_in(task)}
    all_told(partial(_apart, task, _asked_in(task), evaluated) for task in tasks if is_local(task))


def identity(development: Development, found: Found) -> list[str]:
    """What the development data is known by: hashes of files, and what tasks are known by."""
    split = [sha256(file) for file in _dev_files(found)] if "dev" in development.tasks else []
    return split + [f"{task_name(task)} {task_content(task)}" for task in development.others]


def read(development: Development, found: Found, evaluate: Evaluate) -> list[Ranking]:
    """The development data: one ranking of the dev split, one of each part of each task.

    Raises:
        InputError: there is none, it cannot be read, or a task of it asks what an evaluation task asks.
        RunError: a task's data cannot be had from the Hub.
    """
    evaluated = _evaluated(evaluate)
    split = [_of_dev_split(found, development, evaluated)] if "dev" in development.tasks else []
    tasks = [it for task in development.others for it in _of_task(task, development, evaluate.languages)]
    all_told(partial(_apart, it.name, set(it.queries), evaluated) for it in tasks)
    return split + tasks


def ndcg(model: "SentenceTransformer | MultiVectorEncoder", rankings: list[Ranking], batch_size: int) -> float:
    """Mean nDCG@10 over the rankings (0 to 1), binary: by cosine as the model has it, or by MaxSim."""
    from sentence_transformers.multi_vector_encoder.evaluation import MultiVectorInformationRetrievalEvaluator
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    kind = MultiVectorInformationRetrievalEvaluator if models.is_late(model) else InformationRetrievalEvaluator
    settings: dict[str, Any] = {f"{it}_at_k": [10] for it in ("ndcg", "mrr", "accuracy", "precision_recall", "map")}
    settings |= {"batch_size": batch_size, "write_csv": False, "show_progress_bar": sys.stderr.isatty()}
    scores = []
    for it in rankings:
        evaluator = kind(it.queries, it.passages, it.relevant, **settings)
        scores.append(float(evaluator(model)[evaluator.primary_metric]))
    return sum(scores) / len(scores)


# ---- the dev split ---------------------------------------------------------------------------------------------------


def _of_dev_split(found: Found, development: Development, evaluated: set[str]) -> Ranking:
    """The dev split's queries, less those that training or evaluation has too; among passages of both splits."""
    files = _dev_files(found)
    try:
        queries = {_id(query) for query in _column(files, "query")}
        offered = len(queries)
        queries -= evaluated
        for query in _column(found.files, "query"):
            queries.discard(_id(query))
        if len(queries) < offered:
            log.info("development: left out %d of %d queries: asked elsewhere too", offered - len(queries), offered)
        ranking = _asking(set(sorted(queries)[: development.queries]), files)
        _fill(ranking.passages, _column(found.files, "positive"), development.passages)
    except (pa.ArrowException, OSError) as error:
        raise InputError.of(f"the dev split cannot be read: {type(error).__name__}", found.name) from error
    if not ranking.queries:
        mend = "`split: {dev: 0.05}` in the dataset's recipe makes one; or name tasks: `train.development.tasks: [./my-dev]`."
        raise InputError.of(f"{found.name} has no dev split with queries of its own", WHERE, mend)
    return ranking


def _dev_files(found: Found) -> list[Path]:
    """The dev split beside the training rows: `triplets-dev.parquet` of a run folder, `dev-00000-of-00001.parquet` of a dataset."""
    first = found.files[0]
    return sorted(first.parent.glob(re.sub(r"train(-\d+-of-\d+)?\.parquet$", "dev*.parquet", first.name)))


def _column(files: list[Path], name: str) -> Iterator[str]:
    return (text for file in files for row in rows(file, [name]) if isinstance(text := row.get(name), str))


def _asking(queries: set[str], files: list[Path]) -> Ranking:
    """A ranking for the chosen queries: their positives are relevant, their hard negatives stand among the passages."""
    ranking = Ranking("dev", {}, {}, defaultdict(set))
    for file in files:
        negatives = [name for name in pq.read_schema(file).names if re.fullmatch(r"negative_\d+", name)]
        for row in rows(file, ["query", "positive", *negatives]):
            query, *passages = (row.get(name) for name in ("query", "positive", *negatives))
            if not isinstance(query, str) or (query_id := _id(query)) not in queries:
                continue
            texts = {_id(text): text for text in passages if isinstance(text, str)}
            if isinstance(passages[0], str):
                ranking.queries.setdefault(query_id, query)
                ranking.relevant[query_id].add(_id(passages[0]))
            ranking.passages.update(texts)
    return ranking


# ---- tasks -----------------------------------------------------------------------------------------------------------


def _of_task(task: str, development: Development, languages: list[str]) -> Iterator[Ranking]:
    from medembed.tasks import registry

    for subset, splits in registry.load(task, languages).dataset.items():
        for split, data in splits.items():
            yield _of_part(f"{task_name(task)} {subset}/{split}", data, development)


def _of_part(name: str, data: Any, development: Development) -> Ranking:
    """One part of a task of mteb's. Passages that answer a query are all kept, others as many as there is room for."""
    answers = {
        query: {it for it, grade in grades.items() if grade > 0} for query, grades in data["relevant_docs"].items()
    }
    asked = {_id(row["text"]): row for row in data["queries"] if answers.get(row["id"])}
    asked = dict(sorted(asked.items())[: development.queries])
    wanted = {passage for row in asked.values() for passage in answers[row["id"]]}
    ids: dict[str, str] = {}  # the task's id of a passage that answers → ours
    passages: dict[str, str] = {}
    for row in data["corpus"]:
        if row["id"] in wanted:
            text = passage_input(row.get("title"), row["text"])
            ids[row["id"]] = _id(text)
            passages[_id(text)] = text
    _fill(passages, (passage_input(row.get("title"), row["text"]) for row in data["corpus"]), development.passages)
    relevant = {query: {ids[it] for it in answers[row["id"]] if it in ids} for query, row in asked.items()}
    return Ranking(name, {query: row["text"] for query, row in asked.items()}, passages, relevant)


def _evaluated(evaluate: Evaluate) -> set[str]:
    """What the evaluation tasks ask. Those whose texts cannot be had are told."""
    asked: set[str] = set()
    for task in evaluate.tasks:
        try:
            asked.update(_id(query) for query in texts_of(task).queries)
        except InputError as error:
            why = error.faults[0].what
            log.warning("warning: whether development asks what %s asks cannot be told: %s", task_name(task), why)
    return asked


def _asked_in(folder: str) -> set[str]:
    return {_id(text) for text in beir.read(Path(folder)).queries.values()}


def _apart(name: str, queries: set[str], evaluated: set[str]) -> None:
    if both := len(queries & evaluated):
        what = f"{both} of the {len(queries)} queries of {task_name(name)} are asked in an evaluation task"
        mend = (
            "The score would be that of a model chosen on its test. Take them out, or choose another development task."
        )
        raise InputError.of(what, WHERE, mend)


# ---- both ------------------------------------------------------------------------------------------------------------


def _id(text: str) -> str:
    return content_id(fold(text))


def _fill(passages: dict[str, str], others: Iterable[str], most: int) -> None:
    """Add of the `others` those with the lowest hashes, until `passages` are `most`: the same ones whatever else there is."""
    if (room := most - len(passages)) <= 0:
        return
    lowest: dict[str, str] = {}
    for text in others:
        if (passage := _id(text)) not in passages:
            lowest[passage] = text
        if len(lowest) > 2 * room:
            lowest = dict(sorted(lowest.items())[:room])
    passages.update(sorted(lowest.items())[:room])
