"""A task's texts: its name or folder in; its queries and its passages out, as a model is given them.

Of any task that has text: where nothing is ranked (clustering, reranking in mteb's older forms, …), all texts count as passages.
All languages and all splits that are evaluated count.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medembed.errors import InputError
from medembed.recipe import is_local
from medembed.rows import passage_input
from medembed.tasks import beir, task_name

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

WHERE = "curate.decontaminate.tasks"
MEND = "Name a copy of it as a local BEIR folder, drop it from the list, or set HF_ENDPOINT to a Hub that has it."


@dataclass(frozen=True)
class Texts:
    """`revision` is a commit of the Hub, as mteb pins it, or the hash of a local folder. Both sides can be iterated again."""

    name: str
    revision: str
    queries: Iterable[str]
    passages: Iterable[str]


def tasks_meant(tasks: list[str]) -> list[str]:
    """The tasks that a recipe's list means: `default` stands for the headline's five and MTEB(Medical, v1)."""
    if "default" not in tasks:
        return list(dict.fromkeys(tasks))
    from medembed.tasks import registry

    others = [task for task in tasks if task != "default"]
    return list(dict.fromkeys([*registry.headline_and_benchmark(), *others]))


def look(task: str) -> None:
    """Look whether the texts of a task can be had, without loading more than a Hub's word for it.

    Raises:
        InputError: unknown to mteb, not on the Hub and not in its cache, or a faulty folder.
    """
    if is_local(task):
        beir.read(Path(task))
        return
    from medembed.tasks import registry

    if not registry.is_on_hub(registry.named(task, WHERE)):
        texts_of(task)  # a task that was loaded before needs no Hub


def texts_of(task: str) -> Texts:
    """Load a task and its texts.

    Raises:
        InputError: as `look`, data that cannot be loaded, or a task without text.
    """
    return _of_folder(Path(task)) if is_local(task) else _of_mteb(task)


def _of_folder(folder: Path) -> Texts:
    data = beir.read(folder)
    passages = [passage_input(title, text) for title, text in data.passages.values()]
    return Texts(task_name(str(folder)), beir.content_hash(folder), list(data.queries.values()), passages)


def _of_mteb(name: str) -> Texts:
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    from medembed.tasks import registry

    task = registry.named(name, WHERE)
    if "text" not in task.metadata.modalities:
        raise InputError.of(f"{name} has no text, but {', '.join(task.metadata.modalities)}", WHERE, "Drop it.")
    try:
        task.load_data()
    except registry.NOT_LOADED as error:
        what = f"the texts of {name} ({task.metadata.dataset['path']}) cannot be loaded: {type(error).__name__}"
        raise InputError.of(what, WHERE, MEND) from error
    revision = task.metadata.dataset.get("revision", "")
    if isinstance(task, AbsTaskRetrieval):
        sides = list(_sides(task))
        return Texts(name, revision, _Each([q for q, _ in sides]), _Each([p for _, p in sides]))
    return Texts(name, revision, [], list(_all_texts(task)))


class _Each:
    """The texts of several sides of a retrieval task, read from where mteb keeps them; a side that comes twice is read once."""

    def __init__(self, sides: list[Any]) -> None:
        self._sides = list({id(side): side for side in sides}.values())

    def __iter__(self) -> Iterator[str]:
        for side in self._sides:
            # mteb's first form of a side is a mapping: id → text, or id → columns
            for row in side.values() if isinstance(side, Mapping) else side:
                columns = {"text": row} if isinstance(row, str) else row
                yield passage_input(columns.get("title"), " ".join(_strings(columns.get("text"))))


def _sides(task: Any) -> Iterator[tuple[Any, Any]]:
    """The queries and the corpus of each language and split, in either of the two forms that mteb's retrieval tasks have."""
    if hasattr(task, "corpus"):
        languages = task.queries if task.metadata.is_multilingual else [None]
        for language in languages:
            queries, corpus = (side[language] if language else side for side in (task.queries, task.corpus))
            yield from ((queries[split], corpus[split]) for split in queries)
    else:
        for splits in task.dataset.values():
            yield from ((data["queries"], data["corpus"]) for data in splits.values())


def _all_texts(task: "AbsTask") -> Iterator[str]:
    columns = [name for name, modality in task._get_content_columns().items() if modality == "text"]
    tables = list(_tables(task.dataset, task.metadata.eval_splits))
    return chain.from_iterable(_strings(table[column][:]) for table in tables for column in columns)


def _tables(found: Any, splits: list[str]) -> Iterator[Any]:
    """The tables of the splits, whether they stand alone or under each language."""
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from _tables(value, splits)
        elif name in splits:
            yield value


def _strings(value: Any) -> Iterator[str]:
    """The texts in a cell: one, or lists of them (grouped sentences, the turns of a conversation)."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _strings(value.get("content"))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
