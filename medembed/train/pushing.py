"""Checkpoints as they are written → a branch of the repository that the model will be published to, beside the training.

The branch holds the newest checkpoint as a model that loads, without what only a resumed training needs. Training neither waits for
the Hub nor ends with it: what could not be pushed is said, and the next checkpoint is tried.
"""

import logging
import os
import shutil
import threading
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.utils.tqdm import disable_progress_bars
from transformers import TrainerCallback

from medembed import publish
from medembed.errors import InputError, RunError
from medembed.provenance import _upstream as upstream_of
from medembed.publish import gates, hub
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
    gates.may_be_public(recipe, (upstream_of(provenance) or {}).get("origins", {}))
    try:
        publish.look(recipe)
    except RunError as error:
        log.warning("train: checkpoints cannot be pushed for now: %s", error.faults[0])


class Pushing(TrainerCallback):  # type: ignore[misc]
    """Pushes each checkpoint, unless the one before is still on its way."""

    def __init__(self, recipe: ModelRecipe, checkpoints: Path) -> None:
        self._recipe, self._checkpoints = recipe, checkpoints
        self._thread: threading.Thread | None = None

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step, pushed = state.global_step, self._checkpoints / "pushed.json"
        if (self._thread and self._thread.is_alive()) or step <= _last(pushed):
            return
        # The trainer removes checkpoints while they may still be read: links stay.
        outgoing = self._checkpoints / "outgoing"
        shutil.rmtree(outgoing, ignore_errors=True)
        ignored = shutil.ignore_patterns(*ONLY_FOR_TRAINING)
        shutil.copytree(self._checkpoints / f"checkpoint-{step}", outgoing, copy_function=os.link, ignore=ignored)
        self._thread = threading.Thread(target=self._push, args=[outgoing, step, pushed], daemon=True)
        self._thread.start()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._thread and state.global_step == state.max_steps:
            self._thread.join(PATIENCE)

    def _push(self, folder: Path, step: int, pushed: Path) -> None:
        private, repo, branch = (
            self._recipe.publish.private,
            self._recipe.publish.repo,
            self._recipe.train.checkpoint_branch,
        )
        assert repo and branch
        disable_progress_bars()  # ours is the one that is seen
        try:
            with hub.told(f"{repo}@{branch}"):
                api = HfApi(library_name="medembed")
                api.create_repo(repo, private=private or None, exist_ok=True)
                api.create_branch(repo, branch=branch, exist_ok=True)
                message = f"Step {step} of the training of {self._recipe.name}"
                # A commit that would change nothing is not made: a killed and resumed run pushes nothing twice.
                api.upload_folder(
                    repo_id=repo, folder_path=folder, revision=branch, commit_message=message, delete_patterns="*"
                )
            write_json(pushed, {"step": step})
        except Exception as error:  # whatever it is, training goes on
            what = error.faults[0] if isinstance(error, InputError | RunError) else type(error).__name__
            log.warning("train: checkpoint-%d is not pushed, the next one is tried: %s", step, what)


def _last(pushed: Path) -> int:
    """The last step that was pushed, in this run or before it was interrupted."""
    try:
        return int(read_json(pushed)["step"])
    except InputError:
        return 0
