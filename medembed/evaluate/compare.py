"""`medembed compare A B [C…]`: models that were measured before, side by side. Folders and names in; findings out, as Markdown or JSON.

The first model is what the others are compared with. Everything is read from the scores that `evaluate` has kept by query; nothing is
encoded, and queries are told by their ids alone.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medembed.errors import Fault, InputError
from medembed.evaluate.alone import TOLD
from medembed.evaluate.duels import MAIN, Change, Duel, cells, duel, head_to_head
from medembed.evaluate.scores import Measured, Measurement
from medembed.evaluate.statistics import Comparison
from medembed.models import Resolved
from medembed.recipe import Evaluate, is_local
from medembed.report import METRICS, VERDICTS
from medembed.run import OWNER, read_json, read_owner

log = logging.getLogger(__name__)

SCORED, META = "scores.parquet", "model_meta.json"
RESAMPLES, SEED = Evaluate.model_fields["resamples"].default, Evaluate.model_fields["seed"].default


@dataclass(frozen=True)
class Findings:
    """The models by their names, each of the others against the first, and who wins how many cells of task and metric."""

    models: dict[str, str]  # name → revision
    duels: list[Duel]
    head_to_head: dict[str, dict[str, float]]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def compare_named(names: list[str], places: list[Path]) -> Findings:
    """Compare models that are named by a folder, or by a name that a model has in one of the folders or `places`.

    Raises:
        InputError: a model is not found, found twice, or was measured on other data than the first.
    """
    models = _unlike(_found(names, places))
    first, *others = models
    zero_shot = _zero_shot([*map(Path, filter(_means_folder, names)), *places])
    return Findings(
        models={it.model.name: it.model.revision for it in models},
        duels=[
            duel(first, other, RESAMPLES, SEED, sorted(zero_shot(first.model) & zero_shot(other.model)))
            for other in others
        ],
        head_to_head=head_to_head({it.model.name: cells(it) for it in models}),
    )


def _zero_shot(folders: list[Path]) -> Callable[[Resolved], set[str]]:
    """model → the tasks that are zero-shot for it, as the records in `folders` tell."""
    told = [it for folder in folders if (path := folder / TOLD).exists() for it in read_json(path)]
    records = [read_json(path) for folder in folders if (path := folder / "evaluate" / "record.json").exists()]
    told += [it for record in records for it in record["facts"].get("models", [])]
    known: defaultdict[tuple[str, str], defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for it in told:
        for task, state in it["zero_shot"].items():
            known[it["name"], it["revision"]][task].add(state)

    def zero_shot(model: Resolved) -> set[str]:
        states = known[model.name.partition("@")[0], model.revision]
        return {task for task, said in states.items() if said == {"zero-shot"}}  # unless another run disagrees

    return zero_shot


# ---- which models are meant -------------------------------------------------------------------------------------------


def _found(names: list[str], places: Iterable[Path]) -> list[Measured]:
    """The models in the order of their names; all that is wrong with the names is told at once."""
    folders = {name: Path(name) for name in names if _means_folder(name)}
    known = [it for folder in dict.fromkeys([*folders.values(), *places]) for it in measured_in(folder)]
    models: list[Measured] = []
    faults: list[Fault] = []
    for name in names:
        try:
            models.append(_in_folder(folders[name]) if name in folders else _by_name(name, known))
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(*faults)
    return models


def _means_folder(name: str) -> bool:
    """Whether this is a folder with something measured in it, or can be no name of a model."""
    folder = Path(name)
    return folder.is_dir() and (is_local(name) or (folder / OWNER).exists() or bool(_measured(folder)))


def _in_folder(folder: Path) -> Measured:
    """The model that a folder stands for: the trained one of a run folder, else the only one that was measured there."""
    found = measured_in(folder)
    if (folder / OWNER).exists():
        name = read_owner(folder)["name"]
        record = folder / "evaluate" / "record.json"
        tuned = read_json(record)["facts"]["tuned"] if record.exists() else None
        for it in found:
            if tuned and (it.model.name, it.model.revision) == (tuned["name"], tuned["revision"]):
                return it
        raise InputError.of(f"{name} has not been evaluated here", str(folder), "Run `medembed evaluate` first.")
    if len(found) != 1:
        what = f"holds measurements of {len(found)} models" if found else "holds no measurements"
        mend = (
            f"Name one of them: {_listed(found)}." if found else "Name a run folder, or a folder that `evaluate` wrote."
        )
        raise InputError.of(what, str(folder), mend)
    return found[0]


def _by_name(name: str, known: list[Measured]) -> Measured:
    """The model with this name, or with this last part of a name, at this revision if one is given after an @."""
    name, _, revision = name.partition("@")
    found = [it for it in known if name in (it.model.name, it.model.name.rpartition("/")[2])]
    found = [it for it in found if it.model.revision.startswith(revision)]
    unlike = {(it.model.name, it.model.revision): it for it in found}
    if len(unlike) == 1:
        return found[0]
    if found:
        mend = f"Say which: {', '.join(f'{name}@{revision[:12]}' for name, revision in unlike)}."
        raise InputError.of(f"{name} was measured at {len(unlike)} revisions", mend=mend)
    mend = f"Measured were: {_listed(known)}." if known else "Name a run folder, or say with `--in` where to look."
    raise InputError.of(f"{name} is no folder, and no model of that name was measured", mend=mend)


def _unlike(models: list[Measured]) -> list[Measured]:
    """The models, none twice; those of one name are told apart by their revision."""
    identities = [(it.model.name, it.model.revision) for it in models]
    if twice := sorted({name for name, revision in identities if identities.count((name, revision)) > 1}):
        raise InputError(*(Fault("is named twice: a model cannot be compared with itself", name) for name in twice))
    names = [name for name, _ in identities]
    return [it if names.count(it.model.name) == 1 else Measured(_with_revision(it.model), it.tasks) for it in models]


def _with_revision(model: Resolved) -> Resolved:
    return Resolved(f"{model.name}@{model.revision[:12]}", model.revision, model.path)


def _listed(models: list[Measured]) -> str:
    return ", ".join(sorted({it.model.name for it in models}))


# ---- what was measured in a folder ------------------------------------------------------------------------------------


def measured_in(folder: Path) -> list[Measured]:
    """All models that were measured in a folder: a run folder, one that holds measurements, or a measurement itself.

    Of a model that was measured twice on a task, with other settings or by another mteb, the newer scores count.
    """
    tasks: dict[tuple[str, str], dict[str, Measurement]] = {}
    scored: list[Path] = []
    for place in _measured(folder):
        if (place / SCORED).exists():
            scored.append(place)
        else:
            name = Measurement.read(place).results().stem
            log.info("compare: %s does not rank, and has no scores by query: left out", name)
    for place in sorted(scored, key=lambda it: ((it / SCORED).stat().st_mtime_ns, it.name)):
        measurement = Measurement.read(place)
        result = measurement.results()
        said = read_json(result.with_name("model_meta.json"))
        of_model = tasks.setdefault((said["name"].removeprefix("local/"), said["revision"]), {})
        if result.stem in of_model:
            log.info("%s was measured twice on %s in %s; the newer scores count", said["name"], result.stem, folder)
        of_model[result.stem] = measurement
    return [Measured(Resolved(name, revision, ""), of_model) for (name, revision), of_model in tasks.items()]


def _measured(folder: Path) -> list[Path]:
    """The folders that `measure` wrote, one task of one model each: those of a run folder, those in `folder`, or itself."""
    within = folder / "measured" if (folder / "measured").is_dir() else folder
    places = [within, *(path for path in within.iterdir() if path.is_dir() and not path.name.startswith("."))]
    return [it for it in places if len([path for path in it.glob("results/*/*/*.json") if path.name != META]) == 1]


# ---- as Markdown -----------------------------------------------------------------------------------------------------


def markdown(findings: Findings) -> str:
    """The findings as tables, in points (hundredths)."""
    lines = [f"- {_cell(name)} at `{revision[:12]}`" for name, revision in findings.models.items()]
    for each in findings.duels:
        says = f"{each.tuned} {VERDICTS[each.verdict]} {each.base}"
        lines += ["", f"## {each.verdict}: {says}", "", *_scores(each), *_changes(each)]
    return "\n".join([*lines, "", "## Head to head", "", *_matrix(findings.head_to_head)])


def _scores(found: Duel) -> Iterator[str]:
    yield f"| Task | Metric | {_cell(found.base)} | {_cell(found.tuned)} | Difference [95 %] | p | p, corrected | Won, tied, lost |"
    yield "|---|---|---:|---:|---|---:|---:|---|"
    for task, metrics in found.tasks.items():
        yield from (_row(task, METRICS[metric], it) for metric, it in metrics.items())
    if len(found.tasks) > 1:
        yield from (_row("mean", METRICS[metric], it) for metric, it in found.average.items())
        yield from (
            _row("mean of zero-shot tasks", METRICS[it], each) for it, each in (found.zero_shot_average or {}).items()
        )


def _row(task: str, metric: str, it: Comparison) -> str:
    base, tuned, difference, low, high = (100 * x for x in (it.base, it.tuned, it.difference, it.low, it.high))
    return (
        f"| {_cell(task)} | {metric} | {base:.1f} | {tuned:.1f} | {difference:+.1f} [{low:+.1f}, {high:+.1f}] "
        f"| {it.p:.4f} | {it.corrected_p:.4f} | {it.wins:,} · {it.ties:,} · {it.losses:,} |"
    )


def _changes(found: Duel) -> Iterator[str]:
    for title, changes in (("gained", found.gained), ("lost", found.lost)):
        if changes:
            yield from ("", f"Queries that {title} most ({METRICS[MAIN]}):", "")
            yield f"| Task | Part | Query | {_cell(found.base)} | {_cell(found.tuned)} |"
            yield "|---|---|---|---:|---:|"
            yield from map(_changed, changes)


def _changed(it: Change) -> str:
    names = " | ".join(map(_cell, (it.task, it.part, it.query_id)))
    return f"| {names} | {100 * it.base:.1f} | {100 * it.tuned:.1f} |"


def _matrix(wins: dict[str, dict[str, float]]) -> Iterator[str]:
    """Rows win over columns."""
    yield "Share of the cells (a task, a metric at a depth) in which the row's model scores higher than the column's, in %."
    yield ""
    yield f"| | {' | '.join(map(_cell, wins))} |"
    yield f"|---|{'---:|' * len(wins)}"
    for one, others in wins.items():
        shares = " | ".join(f"{100 * others[it]:.0f}" if it in others else "–" for it in wins)
        yield f"| {_cell(one)} | {shares} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
