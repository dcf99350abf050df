"""May a model have been trained on the data of a task? Names of tasks and of training sets in; a state for each task out.

`trained on` is said by a declaration, `zero-shot` by a declaration that leaves the task out or by a decontamination report; what
nobody has declared or checked is `not known`, and counts as zero-shot nowhere.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

State = Literal["zero-shot", "trained on", "not known"]
States = dict[str, State]  # by the name of the task


def declared(tasks: Iterable[str], training_datasets: Collection[str] | None) -> States:
    """The states by mteb's rule: a task is trained on when its name is among the `training_datasets`.

    These are what `ModelMeta.get_training_datasets()` gives, which counts tasks that are made of the same data; None where nothing is
    declared. Of a task that mteb does not have, a declaration by mteb's names says nothing: pass those to `of_data`.
    """
    if training_datasets is None:
        return dict.fromkeys(tasks, "not known")
    return {task: "trained on" if task in training_datasets else "zero-shot" for task in tasks}


def of_data(
    datasets: Mapping[str, str], training_datasets: Iterable[str], decontamination: Mapping[str, Mapping[str, Any]]
) -> States:
    """The states by our own manifest.

    `datasets` says for each task the repository or folder that its data comes from. A task is trained on when a training set is called
    as the task or its data is, in whatever organisation; else zero-shot when the texts of the task were looked for in the training data
    and removed (`provenance.decontamination`).
    """
    trained_on = {_plain(name) for name in training_datasets}
    states: States = {}
    for task, dataset in datasets.items():
        if {_plain(task), _plain(dataset)} & trained_on:
            states[task] = "trained on"
        else:
            checked = decontamination.get(task, {}).get("state") == "decontaminated"
            states[task] = "zero-shot" if checked else "not known"
    return states


def of_both(base: Mapping[str, State], data: Mapping[str, State]) -> States:
    """What holds of a model that was tuned on `data`: trained on what either was; zero-shot where both are."""
    found: States = {}
    for task in base:
        states = {base[task], data[task]}
        found[task] = next(state for state in ("trained on", "not known", "zero-shot") if state in states)
    return found


def tasks_of(states: Mapping[str, State], state: State = "zero-shot") -> list[str]:
    return [task for task, found in states.items() if found == state]


def share(states: Mapping[str, State]) -> float | None:
    """The percentage of the tasks that are zero-shot; None while one of them is not known, as in mteb."""
    if not states or "not known" in states.values():
        return None
    return round(100 * len(tasks_of(states)) / len(states), 1)


def _plain(name: str) -> str:
    """The last part of a name, for comparison: `mteb/trec-covid` and `BeIR/TRECCOVID` are one."""
    return re.sub(r"[\W_]", "", name.rstrip("/").rpartition("/")[2].casefold())
