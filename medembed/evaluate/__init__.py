"""Model → results: base and tuned model on the same tasks through mteb, and how sure the difference is.

In: a model recipe and what `train` left in the run folder. Out: mteb's results of both models, the scores of every query, and a
record with the comparison on each task and the verdict.
"""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from medembed import models
from medembed.errors import InputError, all_told
from medembed.evaluate.duels import MAIN, duel
from medembed.evaluate.encoders import Named
from medembed.evaluate.scores import METRICS, Measured, measure
from medembed.recipe import Evaluate, Model, ModelRecipe, is_local
from medembed.run import Record, Run, read_json, sha256, write_json
from medembed.tasks import beir, check_names, task_content, task_name

VOLATILE = ("date", "evaluation_time", "evaluation_phases", "kg_co2_emissions")  # of mteb's results


def check_tasks(evaluate: Evaluate) -> None:
    """Look at the tasks before anything starts: local folders are read, other names looked up in mteb (takes seconds).

    Raises:
        InputError: with all that is wrong in all of them.
    """
    looks = [partial(check_names, evaluate.tasks, "evaluate.tasks")]
    all_told([*looks, *(partial(_check_task, task, evaluate.languages) for task in evaluate.tasks)])


def _check_task(task: str, languages: list[str]) -> None:
    if is_local(task):
        beir.read(Path(task))
    else:
        from medembed.tasks import registry

        registry.find_retrieval(task, languages)


def baseline(recipe: ModelRecipe, run: Run) -> Measured:
    """Measure the base; once measured, its scores are read from the run folder."""
    return measure(Named(recipe.base), models.resolve(recipe.base), recipe.evaluate, run.folder / "measured")


def inputs(recipe: ModelRecipe, run: Run) -> tuple[Any, dict[str, Any]]:
    trained = run.record("train")
    if trained is None or not run.path("train", "model").is_dir():
        mend = "Run `medembed train` first."
        raise InputError.of("`train` has not finished: there is no model", str(run.folder), mend)
    base = models.resolve(recipe.base)
    said = {
        "base": recipe.base.model_dump(include={"max_length", "prompts"}),
        "evaluate": recipe.evaluate.model_dump(exclude={"tasks"}),
    }
    read = {
        "base": [base.name, base.revision],
        "train": trained.outputs,
        "tasks": {task_name(task): task_content(task) for task in recipe.evaluate.tasks},
    }
    return said, read


def work(recipe: ModelRecipe, run: Run) -> Record:
    """Both models on the same queries → which ranks better, by how much, and how sure that is."""
    base = baseline(recipe, run)
    tuned = _measure_tuned(recipe, run)
    found = duel(base, tuned, recipe.evaluate.resamples, recipe.evaluate.seed)
    run.write("evaluate", "scores", _side_by_side(base, tuned))
    results = _keep_results(base, run) | _keep_results(tuned, run)
    sizes = {task: {"queries": len(it.scores), "passages": it.passages} for task, it in tuned.tasks.items()}
    return Record(
        stage="evaluate",
        counts={
            "tasks": len(found.tasks),
            "queries": sum(size["queries"] for size in sizes.values()),
            "passages": sum(size["passages"] for size in sizes.values()),
        },
        facts={
            "tasks": {
                task: sizes[task] | {metric: asdict(it) for metric, it in metrics.items()}
                for task, metrics in found.tasks.items()
            },
            "average": asdict(found.average[MAIN]),
            "verdict": found.verdict,
            "base": {"name": base.model.name, "revision": base.model.revision},
            "tuned": {"name": tuned.model.name, "revision": tuned.model.revision},
        },
        outputs=results,
        measured={"mteb_seconds": {"base": _seconds(base), "tuned": _seconds(tuned)}},
    )


def _measure_tuned(recipe: ModelRecipe, run: Run) -> Measured:
    """Measure the trained model just as it was saved: its own prompts and max length."""
    model = Model(model=str(run.path("train", "model").absolute()))
    resolved = replace(models.resolve(model), name=recipe.name)
    return measure(Named(model), resolved, recipe.evaluate, run.folder / "measured")


def _side_by_side(base: Measured, tuned: Measured) -> pa.Table:
    """One row a query of a task, with the scores of both models: to look at what was won and lost."""
    tables = []
    for task, measurement in tuned.tasks.items():
        table = measurement.scores.select(["part", "query_id"])
        table = table.add_column(0, "task", pa.array([task] * len(table), pa.string()))
        for metric in METRICS:
            table = table.append_column(f"base_{metric}", base.tasks[task].scores[metric])
            table = table.append_column(f"tuned_{metric}", measurement.scores[metric])
        tables.append(table)
    return pa.concat_tables(tables)


def _keep_results(measured: Measured, run: Run) -> dict[str, str]:
    """Put mteb's results of a model into the stage's folder, without what differs from run to run; file → sha256."""
    kept = {}
    for measurement in measured.tasks.values():
        for path in sorted(measurement.folder.glob("results/*/*/*.json")):
            result = read_json(path)
            target = run.path("evaluate", path.relative_to(measurement.folder).as_posix())
            write_json(target, result | {key: None for key in VOLATILE if key in result})
            kept[target.relative_to(run.path("evaluate")).as_posix()] = sha256(target)
    return kept


def _seconds(measured: Measured) -> dict[str, float]:
    """task → what mteb took for it, when it was measured."""
    return {
        task: round(read_json(path)["evaluation_time"], 1)
        for task, measurement in measured.tasks.items()
        for path in measurement.folder.glob(f"results/*/*/{task}.json")
    }
