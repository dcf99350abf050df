"""Model → results: base, tuned model and others on the same tasks through mteb, and how sure the differences are.

In: a model recipe and what `train` left in the run folder. Out: mteb's results of all models, the scores of every query of base and
tuned, a picture, and a record with the comparisons, the verdict, what may have been trained on, and what each model costs.
"""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from medembed import models
from medembed.errors import InputError, all_told
from medembed.evaluate.contestants import Contestant, contestants
from medembed.evaluate.duels import MAIN, Duel, duel
from medembed.evaluate.encoders import Named
from medembed.evaluate.lineage import declared_to_mteb
from medembed.evaluate.pictures import draw_compressed
from medembed.evaluate.scores import METRICS, Measured, measure
from medembed.evaluate.zero_shot import tasks_of
from medembed.provenance import manifest
from medembed.recipe import Endpoint, Evaluate, ModelRecipe, is_local
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
    evaluate = recipe.evaluate
    said = {
        "base": recipe.base.model_dump(include={"max_length", "prompts"}),
        # Not where an endpoint is: the same model elsewhere is the same.
        "compare": [peer.model_dump(exclude={"endpoint", "weights"}) for peer in evaluate.compare],
        "evaluate": evaluate.model_dump(exclude={"tasks", "compare"}) | {"dimensions": recipe.cut_to},
    }
    others = [models.resolve(peer) for peer in evaluate.compare if not isinstance(peer, Endpoint)]
    read = {
        "base": [base.name, base.revision],
        "train": trained.outputs,
        "compare": [[it.name, it.revision] for it in others],
        "tasks": {task_name(task): task_content(task) for task in evaluate.tasks},
    }
    return said, read


def work(recipe: ModelRecipe, run: Run) -> Record:
    """All models on the same queries → which ranks better, by how much, how sure that is, and at what cost."""
    found = contestants(recipe, run)
    base, tuned, *others = found
    main = _duel(base, tuned, recipe.evaluate)
    against = {other.name: _duel(other, tuned, recipe.evaluate) for other in others}
    run.write("evaluate", "scores", _side_by_side(base.measured, tuned.measured))
    of_tuned = declared_to_mteb(manifest(recipe, run), base.name)
    told = {"tuned": {"n_parameters": tuned.costs.facts["parameters"], **of_tuned}}
    kept = {
        name: hashed for it in found for name, hashed in _keep_results(it.measured, told.get(it.role, {}), run).items()
    }
    kept |= _draw(found, run)
    sizes = {task: {"queries": len(it.scores), "passages": it.passages} for task, it in tuned.measured.tasks.items()}
    on_hub = _on_hub(recipe.evaluate)
    return Record(
        stage="evaluate",
        counts={
            "tasks": len(sizes),
            "queries": sum(size["queries"] for size in sizes.values()),
            "passages": sum(size["passages"] for size in sizes.values()),
        },
        facts={
            "tasks": {
                task: sizes[task] | on_hub.get(task, {}) | {metric: asdict(it) for metric, it in metrics.items()}
                for task, metrics in main.tasks.items()
            },
            "average": asdict(main.average[MAIN]),
            "zero_shot_average": asdict(main.zero_shot_average[MAIN]) if main.zero_shot_average else None,
            "verdict": main.verdict,
            "base": {"name": base.name, "revision": base.measured.model.revision},
            "tuned": {"name": tuned.name, "revision": tuned.measured.model.revision},
            "compared": {name: _told(it) for name, it in against.items()},
            "models": [it.facts() for it in found],
        },
        outputs=kept,
        measured={
            "mteb_seconds": {it.name: _seconds(it.measured) for it in found},
            "speed": {it.name: it.costs.speed for it in found if it.costs.speed},
        },
    )


def _on_hub(evaluate: Evaluate) -> dict[str, Any]:
    """Of each task that is not a local one, where its data stands on the Hub, and what its score is called there."""
    from medembed.tasks import registry

    found = {task: registry.benchmark(task, evaluate.languages) for task in evaluate.tasks if not is_local(task)}
    return {task: {"benchmark": of_task} for task, of_task in found.items() if of_task}


def _duel(base: Contestant, tuned: Contestant, evaluate: Evaluate) -> Duel:
    zero_shot = set(tasks_of(base.states)) & set(tasks_of(tuned.states))
    return duel(base.measured, tuned.measured, evaluate.resamples, evaluate.seed, sorted(zero_shot))


def _told(found: Duel) -> dict[str, Any]:
    """The tuned model against another one than its base, by nDCG@10."""
    return {
        "tasks": {task: asdict(metrics[MAIN]) for task, metrics in found.tasks.items()},
        "average": asdict(found.average[MAIN]),
        "zero_shot_average": asdict(found.zero_shot_average[MAIN]) if found.zero_shot_average else None,
        "verdict": found.verdict,
    }


def _draw(found: list[Contestant], run: Run) -> dict[str, str]:
    """The picture of quality against size, where there are several sizes and it can be drawn; file → sha256."""
    measured = {it.name: it.costs.by_form for it in found}
    if all(len(forms) < 2 for forms in measured.values()):
        return {}
    drawn = draw_compressed(run.path("evaluate", "compressed"), measured)
    return {path.name: sha256(path) for path in drawn}


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


def _keep_results(measured: Measured, meta: dict[str, Any], run: Run) -> dict[str, str]:
    """Put mteb's results of a model into the stage's folder, without what differs from run to run; file → sha256.

    `meta`: what is told of the model besides.
    """
    kept = {}
    for measurement in measured.tasks.values():
        for path in sorted(measurement.folder.glob("results/*/*/*.json")):
            result = read_json(path)
            target = run.path("evaluate", path.relative_to(measurement.folder).as_posix())
            more = meta if path.name == "model_meta.json" else {key: None for key in VOLATILE if key in result}
            write_json(target, result | more)
            kept[target.relative_to(run.path("evaluate")).as_posix()] = sha256(target)
    return kept


def _seconds(measured: Measured) -> dict[str, float]:
    """task → what mteb took for it, when it was measured."""
    return {
        task: round(read_json(path)["evaluation_time"], 1)
        for task, measurement in measured.tasks.items()
        for path in measurement.folder.glob(f"results/*/*/{task}.json")
    }
