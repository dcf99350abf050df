"""Tasks as a recipe names them: mteb's own by name, local BEIR folders by path; an mteb retrieval task out, ready to load.

A local folder becomes a task like any other, so that mteb ranks and scores both in the same way. Importing mteb takes
seconds: this module is imported where there is something to measure, or a name to look up.
"""

import logging
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import mteb
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.get_tasks import TASK_LIST

from medembed.errors import InputError, RunError
from medembed.evaluate import beir
from medembed.recipe import is_local

log = logging.getLogger(__name__)


class LocalTask(AbsTaskRetrieval):  # type: ignore[misc]
    """A BEIR folder: named as the folder, its revision is the hash of its content."""

    def __init__(self, folder: Path, languages: list[str]) -> None:
        self.folder = folder
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
        titles, texts = zip(*data.passages.values(), strict=True)
        split = {
            "corpus": Dataset.from_dict({"id": list(data.passages), "title": titles, "text": texts}),
            "queries": Dataset.from_dict({"id": list(data.queries), "text": list(data.queries.values())}),
            "relevant_docs": data.judgments,
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


def find(task: str, languages: list[str]) -> AbsTaskRetrieval:
    """The task that an entry of `evaluate.tasks` names, not loaded yet.

    Raises:
        InputError: unknown name or language, nothing in these languages, or no text retrieval task.
    """
    try:
        if is_local(task):
            return LocalTask(Path(task), languages)
        found = mteb.get_task(task, languages=languages, exclusive_language_filter=True)
    except KeyError as error:
        near = ", ".join(get_close_matches(task, [known.metadata.name for known in TASK_LIST], n=5))
        mend = f"Near names: {near}." if near else "A local folder begins with ./ or /."
        raise InputError.of(f"mteb has no task {task!r}", "evaluate.tasks", mend) from error
    except ValueError as error:
        what = f"{Path(task).name} has nothing in {', '.join(languages)}"
        raise InputError.of(what, "evaluate.languages", "Languages are ISO 639-3 codes, such as eng.") from error
    if not isinstance(found, AbsTaskRetrieval) or found.metadata.modalities != ["text"]:
        what = f"{task} is no text retrieval task but {found.metadata.type}"
        raise InputError.of(what, "evaluate.tasks", "Name tasks that rank passages for queries.")
    return found


def load(task: str, languages: list[str]) -> AbsTaskRetrieval:
    """The task with its queries, passages and judgments.

    Raises:
        InputError: as `find`, and for what is wrong in a local folder.
        RunError: the data cannot be had from the Hub.
    """
    found = find(task, languages)
    try:
        found.load_data()
    except (OSError, ValueError) as error:
        mend = "Check HF_ENDPOINT and the network; the same command goes on from here."
        what = f"the data of {task} cannot be loaded ({type(error).__name__})"
        raise RunError.of(what, found.metadata.dataset["path"], mend) from error
    return found
