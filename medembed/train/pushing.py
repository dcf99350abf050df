"""Checkpoints as they are written → a branch of the repository that the model will be published to, beside the training.

The branch holds the newest checkpoint as a model that loads, without what only a resumed training needs. Training neither waits for
the Hub nor ends with it: what could not be pushed is said, and the next checkpoint is tried.
"""

import logging
import os
import queue
import shutil
import threading
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.utils.tqdm import disable_progress_bars
from transformers import TrainerCallback

from medembed import publish
from medembed.errors import InputError, RunError
from medembed.hub import told
from medembed.provenance import learned_from, upstream_of
from medembed.publish import gates
from medembed.recipe import ModelRecipe
from medembed.run import read_json, write_json
from medembed.train.checkpoints import COMPLETE

log = logging.getLogger(__name__)

ONLY_FOR_TRAINING = ("optimizer*", "scheduler*", "scaler*", "rng_state*", "pytorch_model_fsdp*", COMPLETE)
PATIENCE = 600  # seconds that the end of training waits for the last checkpoint


def check(recipe: ModelRecipe, provenance: dict[str, Any] | None) -> None:
    """
    Raises:
        InputError: weights learned from this data, or by this user, may not go to `publish.repo`.
    """
    gates.may_be_public(recipe, learned_from(upstream_of(provenance), recipe.data.dataset))
    try:
        publish.look(recipe)
    except RunError as error:
        log.warning("train: checkpoints cannot be pushed for now: %s", error.faults[0])


class Pushing(TrainerCallback):  # type: ignore[misc]
    """Pushes the newest checkpoint whenever the one before has gone out."""

    def __init__(self, recipe: ModelRecipe, checkpoints: Path) -> None:
        self._recipe, self._checkpoints = recipe, checkpoints
        self._saved: queue.Queue[int | None] = queue.Queue()
        self._newest = 0
        self._thread = threading.Thread(target=self._keep_pushing, daemon=True)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for left in self._checkpoints.glob("outgoing-*"):
            shutil.rmtree(left)
        self._thread.start()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step <= self._pushed():
            return
        self._newest = state.global_step
        # The trainer removes checkpoints while they may still be read: links stay.
        ignored = shutil.ignore_patterns(*ONLY_FOR_TRAINING)
        checkpoint, outgoing = self._checkpoints / f"checkpoint-{self._newest}", self._outgoing(self._newest)
        shutil.copytree(checkpoint, outgoing, copy_function=os.link, ignore=ignored)
        self._saved.put(self._newest)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._saved.put(None)
        if state.global_step == state.max_steps:  # else there was a SIGTERM, and no time
            self._thread.join(PATIENCE)

    def _keep_pushing(self) -> None:
        while (step := self._saved.get()) is not None:
            if step == self._newest:
                self._push(step)
            shutil.rmtree(self._outgoing(step), ignore_errors=True)

    def _push(self, step: int) -> None:
        private, repo, branch = (
            self._recipe.publish.private,
            self._recipe.publish.repo,
            self._recipe.train.checkpoint_branch,
        )
        assert repo and branch
        disable_progress_bars()  # ours is the one that is seen
        try:
            with told(f"{repo}@{branch}"):
                api = HfApi(library_name="medembed")
                api.create_repo(repo, private=private or None, exist_ok=True)
                api.create_branch(repo, branch=branch, exist_ok=True)
                message = f"Step {step} of the training of {self._recipe.name}"
                # A commit that would change nothing is not made: a killed and resumed run pushes nothing twice.
                api.upload_folder(
                    repo_id=repo,
                    folder_path=self._outgoing(step),
                    revision=branch,
                    commit_message=message,
                    delete_patterns="*",
                )
            write_json(self._checkpoints / "pushed.json", {"step": step})
        except Exception as error:  # whatever it is, training goes on
            what = error.faults[0] if isinstance(error, InputError | RunError) else type(error).__name__
            log.warning("train: checkpoint-%d is not pushed, the next one is tried: %s", step, what)

    def _outgoing(self, step: int) -> Path:
        return self._checkpoints / f"outgoing-{step}"

    def _pushed(self) -> int:
        """The last step that was pushed, in this run or before it was interrupted."""
        try:
            return int(read_json(self._checkpoints / "pushed.json")["step"])
        except InputError:
            return 0
