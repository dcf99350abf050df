"""The models that a recipe compares: base, tuned, and those under `evaluate.compare`, each measured on the same tasks.

In: a model recipe and its run folder. Out: for each model its scores, whether it may have been trained on the tasks, and its costs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from medembed import models
from medembed.errors import InputError, all_told
from medembed.evaluate.costs import Costs, costs_of
from medembed.evaluate.duels import MAIN
from medembed.evaluate.encoders import Named, find, states_of
from medembed.evaluate.endpoints import Elsewhere
from medembed.evaluate.lineage import by_manifest, by_registry
from medembed.evaluate.scores import METRICS, Measured, encoder_of, measure
from medembed.evaluate.zero_shot import States, share, tasks_of
from medembed.models import Resolved
from medembed.provenance import manifest
from medembed.recipe import Endpoint, Model, ModelRecipe
from medembed.run import Run

Role = Literal["base", "tuned", "compared"]


@dataclass(frozen=True)
class Contestant:
    """One model, with all that is told of it."""

    role: Role
    measured: Measured
    states: States  # whether it may have been trained on the data of each task
    costs: Costs

    @property
    def name(self) -> str:
        return self.measured.model.name

    def facts(self) -> dict[str, Any]:
        """What is the same on every run; averages are of nDCG@10."""
        at = METRICS.index(MAIN)
        scores = {task: _mean([part[:, at].mean() for part in it.parts]) for task, it in self.measured.tasks.items()}
        zero_shot = [scores[task] for task in tasks_of(self.states)]
        return {
            "name": self.name,
            "revision": self.measured.model.revision,
            "role": self.role,
            "scores": scores,
            "average": _mean(list(scores.values())),
            "zero_shot": self.states,
            "zero_shot_share": share(self.states),
            "zero_shot_average": _mean(zero_shot) if zero_shot else None,
            **self.costs.facts,
        }


def check_peers(recipe: ModelRecipe) -> None:
    """Look at the models under `evaluate.compare`: those of the Hub are resolved, endpoints asked what they serve.

    Raises:
        InputError: with all that is wrong with all of them.
    """
    names: list[str] = [recipe.name]

    def look(find: Callable[[], Resolved]) -> None:
        names.append(find().name)

    finds = [partial(models.resolve, recipe.base)]
    finds += [partial(_resolved, peer, recipe.evaluate.batch_size) for peer in recipe.evaluate.compare]
    all_told(partial(look, find) for find in finds)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError.of(f"models of the same name: {', '.join(twice)}", "evaluate.compare")


def contestants(recipe: ModelRecipe, run: Run) -> list[Contestant]:
    """Measure all models that were not measured before: base, tuned, then the others in the recipe's order."""
    tuned = Model(model=str(run.path("train", "model").absolute()))  # as it was saved: its own prompts and max length
    base = models.resolve(recipe.base)
    tasks, languages = recipe.evaluate.tasks, recipe.evaluate.languages
    tuned_states = by_manifest(manifest(recipe, run), tasks, languages)
    contestant = partial(_contestant, recipe=recipe, run=run)
    return [
        contestant("base", Named(recipe.base), base, by_registry(base.name, tasks)),
        contestant("tuned", Named(tuned), replace(models.resolve(tuned), name=recipe.name), tuned_states),
        *(
            contestant("compared", model, resolved, states_of(model, resolved, tasks, languages))
            for model, resolved in (_peer(each, recipe.evaluate.batch_size) for each in recipe.evaluate.compare)
        ),
    ]


def _contestant(
    role: Role, model: Any, resolved: Resolved, states: States, recipe: ModelRecipe, run: Run
) -> Contestant:
    folder = run.folder / "measured"
    measured = measure(model, resolved, recipe.evaluate, folder)
    encoder = encoder_of(model, resolved, recipe.evaluate, folder)
    return Contestant(role, measured, states, costs_of(encoder, recipe.evaluate, recipe.cut_to))


def _peer(peer: Model | Endpoint, batch_size: int) -> tuple[Any, Resolved]:
    """What `measure` takes for a model under `evaluate.compare`: with mteb's prompts, where the recipe says nothing of its own."""
    if isinstance(peer, Endpoint):
        served = Elsewhere(peer, batch_size)
        return served, served.encoder().resolved
    if peer.prompts is None and peer.max_length is None and peer.weights is None:
        return find(f"{peer.model}@{peer.revision}" if peer.revision else peer.model, allow_remote_code=False)
    return Named(peer), models.resolve(peer)


def _resolved(peer: Model | Endpoint, batch_size: int) -> Resolved:
    return _peer(peer, batch_size)[1]


def _mean(scores: list[float]) -> float:
    return round(float(sum(scores)) / len(scores), 6)
