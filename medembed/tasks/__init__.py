"""Evaluation tasks as recipes name them: mteb's by name, local BEIR folders by path. `evaluate` scores on them, and `curate` keeps
their texts out of the training data.
"""

from importlib.metadata import version
from pathlib import Path

from medembed.errors import InputError
from medembed.recipe import is_local
from medembed.tasks import beir


def task_name(task: str) -> str:
    return Path(task).name if is_local(task) else task


def check_names(tasks: list[str], where: str) -> None:
    """
    Raises:
        InputError: two tasks have the same name, by which results are told apart.
    """
    names = [task_name(task) for task in tasks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError.of(f"tasks of the same name: {', '.join(twice)}", where, "Name each once, or rename a folder.")


def task_content(task: str) -> str:
    """What a task's content is known by: the hash of a local folder; for the others mteb, which pins their revisions."""
    return beir.content_hash(Path(task)) if is_local(task) else f"mteb {version('mteb')}"
