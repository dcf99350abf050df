"""Tasks of mteb's registry by name, and local BEIR folders by path: a task of mteb's out, ready to load.

A local folder becomes a task like any other, so that mteb ranks and scores both in the same way. Importing mteb takes
seconds: this module is imported where there is something to measure, or a name to look up.
"""

import logging
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import httpx2
import mteb
from datasets import Dataset
from datasets.exceptions import DatasetsError
from huggingface_hub import HfApi
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.get_tasks import TASK_LIST

from medembed.errors import InputError, RunError
from medembed.recipe import is_local
from medembed.tasks import beir

log = logging.getLogger(__name__)

HEADLINE = ("ArguAna", "MedicalQARetrieval", "NFCorpus", "PublicHealthQA", "TRECCOVID")
BENCHMARK = "MTEB(Medical, v1)"
NOT_LOADED = (OSError, ValueError, KeyError, DatasetsError, httpx2.HTTPError)
"""What mteb and datasets raise when the data of a task cannot be had, or is not what the task expects."""


class LocalTask(AbsTaskRetrieval):  # type: ignore[misc]
    """A BEIR folder: named as the folder, its revision is the hash of its content."""

    def __init__(self, folder: Path, languages: list[str]) -> None:
        self.folder = folder
        self.notes: dict[str, str] = {}  # query id → the note that it is about, once loaded
        self.metadata = TaskMetadata(
            name=folder.name,
            description="A local retrieval task in BEIR's layout.",
            dataset={"path": folder.name, "revision": beir.content_hash(folder)},
            type="Retrieval",
            category="t2t",
            eval_splits=["test"],
            eval_langs=languages,
            main_score="ndcg_at_10",
        )
        super().__init__()

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        data = beir.read(self.folder)
        if data.unjudged:
            log.info("%s: %d queries without a judgment are not asked", self.metadata.name, data.unjudged)
        if empty := sum(not "".join(passage).strip() for passage in data.passages.values()):
            log.info("%s: passages with neither title nor text: %d", self.metadata.name, empty)
        titles, texts = zip(*data.passages.values(), strict=True)
        split = {
            "corpus": Dataset.from_dict({"id": list(data.passages), "title": titles, "text": texts}),
            "queries": Dataset.from_dict({"id": list(data.queries), "text": list(data.queries.values())}),
            "relevant_docs": data.judgments,
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": split}}
        self.notes = data.notes
        # As mteb has it of ArguAna: a query that is itself a passage must not find itself.
        self.ignore_identical_ids = any(
            it in data.passages and text == data.passages[it][1] for it, text in data.queries.items()
        )
        self.data_loaded = True


def headline_and_benchmark() -> list[str]:
    """The names of the headline's five tasks and of those in MTEB(Medical, v1), each once."""
    return list(dict.fromkeys([*HEADLINE, *(task.metadata.name for task in mteb.get_benchmark(BENCHMARK).tasks)]))


def find(task: str, languages: list[str]) -> AbsTask:
    """The task of texts that an entry of `evaluate.tasks` names, not loaded yet; in all its languages where none are given.

    Raises:
        InputError: unknown name or language, nothing in these languages, or no task of texts.
    """
    try:
        if is_local(task):
            return LocalTask(Path(task), languages or ["eng"])
        selected = {"languages": languages, "exclusive_language_filter": True} if languages else {}
        found = named(task, "evaluate.tasks", **selected)
    except ValueError as error:
        what = f"{Path(task).name} has nothing in {', '.join(languages)}"
        raise InputError.of(what, "evaluate.languages", "Languages are ISO 639-3 codes, such as eng.") from error
    if found.metadata.modalities != ["text"]:
        what = f"{task} is no task of texts, but of {', '.join(found.metadata.modalities)}"
        raise InputError.of(what, "evaluate.tasks", "Name another.")
    return found


def find_retrieval(task: str, languages: list[str]) -> AbsTaskRetrieval:
    """As `find`, of a task that has scores by query: only such tasks can say whether one model is better than another.

    Raises:
        InputError: as `find`, or no retrieval task.
    """
    found = find(task, languages)
    if not isinstance(found, AbsTaskRetrieval):
        what = f"{task} is no text retrieval task but {found.metadata.type}"
        raise InputError.of(what, "evaluate.tasks", "Name tasks that rank passages for queries.")
    return found


def named(task: str, where: str, **selected: Any) -> AbsTask:
    """The task of mteb's that is called so: of any type, in all its languages unless `selected` says which.

    Raises:
        InputError: there is none, or it is a sum of others. `where` says which key of the recipe names it.
    """
    try:
        found = mteb.get_task(task, **selected)
    except KeyError as error:
        near = ", ".join(get_close_matches(task, [known.metadata.name for known in TASK_LIST], n=5))
        mend = f"Near names: {near}." if near else "A local folder begins with ./ or /."
        raise InputError.of(f"mteb has no task {task!r}", where, mend) from error
    if isinstance(found, AbsTaskAggregate):
        parts = ", ".join(part.metadata.name for part in found.tasks)
        raise InputError.of(f"{task} is made of other tasks", where, f"Name those that you mean: {parts}.")
    return found


def look(task: str, languages: list[str]) -> None:
    """Look whether a task is known and its data can be had, without loading more than a Hub's word for it.

    Raises:
        InputError: as `find`; its data is not on the Hub, and not in the cache of datasets.
    """
    if is_local(task):
        beir.read(Path(task))
    elif not is_on_hub(find(task, languages)):
        try:
            load(task, languages)  # a task that was loaded before needs no Hub
        except RunError as error:
            raise InputError(*error.faults) from error


def is_on_hub(task: AbsTask) -> bool:
    """Whether the Hub says that it has a task's data; nothing is loaded."""
    data = task.metadata.dataset
    try:
        HfApi().repo_info(data["path"], repo_type="dataset", revision=data.get("revision"))
    except (OSError, httpx2.HTTPError):
        return False
    return True


def benchmark(task: str, languages: list[str]) -> dict[str, str] | None:
    """The dataset, its revision and the id under which the Hub lists a score of a task in these languages, as mteb registers them.

    A score is that of all subsets and splits of a task, or of one of each; of some of them there is no id.
    """
    found = find(task, languages)
    data, asked = found.metadata.dataset, [found.hf_subsets, found.metadata.eval_splits]
    if set(found.hf_subsets) == set(found.metadata.hf_subsets):
        return {"dataset": data["path"], "revision": data["revision"], "task_id": found.metadata.name}
    if any(len(each) != 1 for each in asked):
        return None
    (subset,), (split,) = asked
    return {"dataset": data["path"], "revision": data["revision"], "task_id": f"{found.metadata.name}_{subset}_{split}"}


def load(task: str, languages: list[str]) -> AbsTask:
    """The task with its data: queries, passages and judgments of one that ranks.

    Raises:
        InputError: as `find`, and for what is wrong in a local folder.
        RunError: the data cannot be had from the Hub.
    """
    found = find(task, languages)
    try:
        found.load_data()
        if isinstance(found, AbsTaskRetrieval):
            found.convert_v1_dataset_format_to_v2(num_proc=None)  # PublicHealthQA and CUREv1 come in mteb's first form
    except NOT_LOADED as error:
        mend = "Check HF_ENDPOINT and the network; the same command goes on from here."
        what = f"the data of {task} cannot be loaded ({type(error).__name__})"
        raise RunError.of(what, found.metadata.dataset["path"], mend) from error
    return found
