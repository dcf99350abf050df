"""Which weights are saved: of all checkpoints, of their mean and of mixtures with the base, those that rank best on development data.

A checkpoint is measured when it is whole, as the model that would be saved: with the lengths and prompts of use, apart from the
training that goes on. Its weights are kept here while they can still be chosen, since the trainer removes old checkpoints.
Everything measured is on disk, so that a killed run goes on and chooses the same.

Means of checkpoints: model soups (Wortsman et al. 2022, arXiv:2203.05482). Mixtures with the base, which keep what it knows of
other fields: LM-Cocktail (Xiao et al. 2023, arXiv:2311.13534).
"""

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from medembed import models
from medembed.recipe import Model, ModelRecipe
from medembed.run import read_json, replacing, write_json
from medembed.train import stopping
from medembed.train.checkpoints import full_disk_is_seen
from medembed.train.development import Ranking, ndcg

log = logging.getLogger(__name__)

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Candidate:
    """The mean of the weights after `steps`, mixed with those of the base, whose share is `base`."""

    steps: tuple[int, ...]
    base: float = 0.0


BASE = Candidate((), 1.0)


class Selection:
    """The candidates of one training run. Lives in the main process alone."""

    def __init__(self, recipe: ModelRecipe, rankings: list[Ranking], folder: Path) -> None:
        """`folder`: for weights and scores; what a killed run left there is taken up."""
        assert recipe.train.development is not None
        self._development = recipe.train.development
        self._every = self._development.steps or recipe.train.save_steps
        self._batch_size = recipe.evaluate.batch_size
        self._rankings, self._folder = rankings, folder
        self._model = models.load(recipe.base, device="cpu", method=recipe.train.method)
        self._base = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
        self._scores = _read(folder / "scores.json")

    def take(self, checkpoint: Path) -> None:
        """Measure a whole checkpoint and keep its weights, if it is one of those to be measured and was not before."""
        if _step(checkpoint) % self._every == 0:
            self._take(checkpoint)

    def choose(self, last: Path) -> tuple[Weights, dict[str, Any]]:
        """The weights to save, and what the record tells: every score, and which was chosen. `last`: the last checkpoint."""
        self._take(last)
        measured = self._measured()
        candidates = self._candidates(measured)
        scores = {candidate: self._score(candidate) for candidate in candidates}
        chosen = max(candidates, key=scores.__getitem__)  # of equals the first, which is mixed least
        log.info("development: nDCG@10 %.4f; the base has %.4f", scores[chosen], self._score(BASE))
        facts = {
            "rankings": {it.name: {"queries": len(it.queries), "passages": len(it.passages)} for it in self._rankings},
            "base": self._score(BASE),
            "checkpoints": {str(step): self._score(Candidate((step,))) for step in measured},
            "candidates": [asdict(candidate) | {"ndcg_at_10": score} for candidate, score in scores.items()],
            "chosen": asdict(chosen) | {"ndcg_at_10": scores[chosen]},
        }
        return self._weights(chosen), facts

    def _take(self, checkpoint: Path) -> None:
        candidate = Candidate((_step(checkpoint),))
        if candidate in self._scores:
            return
        weights = models.load(Model(model=str(checkpoint.absolute())), device="cpu").state_dict()
        with full_disk_is_seen(self._folder.parent), replacing(self._file(_step(checkpoint))) as temporary:
            torch.save(weights, temporary)
        log.info("development: nDCG@10 %.4f after %d steps", self._score(candidate), _step(checkpoint))
        kept = {self._file(step) for step in self._kept(self._measured())}
        for file in set(self._folder.glob("*.pt")) - kept:
            file.unlink()

    def _candidates(self, measured: list[int]) -> list[Candidate]:
        """The best checkpoint and the mean of the last ones, each with every share of the base; the plain ones first."""
        averaging = self._development.averaging
        steps: list[tuple[int, ...]] = [(self._best(measured),)]
        if averaging.checkpoints > 1:
            steps.append(tuple(measured[-averaging.checkpoints :]))
        return [Candidate(each, share) for share in sorted({0.0, *averaging.base}) for each in dict.fromkeys(steps)]

    def _score(self, candidate: Candidate) -> float:
        """Measured once; the score of weights that were measured before is read."""
        if candidate not in self._scores:
            self._model.load_state_dict(self._weights(candidate))
            self._model.to("cuda" if torch.cuda.is_available() else "cpu")
            self._scores[candidate] = ndcg(self._model, self._rankings, self._batch_size)
            self._model.to("cpu")
            write_json(
                self._folder / "scores.json", [asdict(it) | {"ndcg_at_10": score} for it, score in self._scores.items()]
            )
        return self._scores[candidate]

    def _weights(self, candidate: Candidate) -> Weights:
        share = (1 - candidate.base) / max(1, len(candidate.steps))
        parts = [(share, torch.load(self._file(step), mmap=True)) for step in reversed(candidate.steps)]
        return mixed(parts + ([(candidate.base, self._base)] if candidate.base else []))

    def _measured(self) -> list[int]:
        """The steps after which checkpoints were measured, in their order."""
        return sorted(it.steps[0] for it in self._scores if len(it.steps) == 1 and not it.base)

    def _best(self, measured: list[int]) -> int:
        return max(measured, key=lambda step: self._scores[Candidate((step,))])  # of equals the first

    def _kept(self, measured: list[int]) -> set[int]:
        """Those that can still be chosen: more steps can only push them out, never bring others back."""
        return {self._best(measured), *measured[-self._development.averaging.checkpoints :]}

    def _file(self, step: int) -> Path:
        return self._folder / f"{step}.pt"


class Measured(TrainerCallback):  # type: ignore[misc]
    """Has each checkpoint measured once it is whole: stands behind `CompletionMark`."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if control.should_training_stop:
            return  # `choose` measures the last one; one that SIGTERM asks for is measured by the run that goes on from it
        with stopping.at_once():
            self._selection.take(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def mixed(parts: Iterable[tuple[float, Weights]]) -> Weights:
    """The sum of weights by their shares, in fp32; what is no floating-point number is the first part's."""
    total: Weights = {}
    for share, weights in parts:
        for name, tensor in weights.items():
            if not tensor.is_floating_point():
                total.setdefault(name, tensor)
            elif name in total:
                total[name] += share * tensor.float()
            else:
                total[name] = share * tensor.float()
    return total


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.partition("-")[2])


def _read(path: Path) -> dict[Candidate, float]:
    if not path.exists():
        return {}
    return {Candidate(tuple(it["steps"]), it["base"]): it["ndcg_at_10"] for it in read_json(path)}
