"""What happens around the steps of training, by the library's callbacks. None of it changes what is learned.

Batches hear of their epoch; a loss that is not a number ends the run; SIGTERM ends it with a checkpoint; the progress is shown.
"""

import logging
import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import TrainerCallback

from medembed.errors import Fault, InputError, RunError
from medembed.recipe import Train
from medembed.run import write_json
from medembed.train import stopping
from medembed.train.batches import GlobalBatches
from medembed.train.data import Rows

log = logging.getLogger(__name__)

TOLD_EVERY = 30.0  # seconds, where standard error is no terminal
ROWS_TOLD = 8  # of a batch, in an error


def check_reporters(train: Train) -> None:
    """
    Raises:
        InputError: `report_to` names something that is not installed.
    """
    if missing := [name for name in train.report_to if find_spec(name) is None]:
        raise InputError(
            *(
                Fault(f"{name} is not installed", "train.report_to", f"pip install 'medembed[{name}]'")
                for name in missing
            )
        )


class Epochs(TrainerCallback):  # type: ignore[misc]
    """Tells the batches their epoch: in a resumed run of several processes nobody else does."""

    def __init__(self, batches: GlobalBatches, accumulation: int) -> None:
        self._batches, self._steps = batches, math.ceil(batches.steps / accumulation)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._batches.set_epoch(state.global_step // self._steps)


class FiniteLoss(TrainerCallback):  # type: ignore[misc]
    """Stops at the first loss that is not a number; all processes at once, since the loss is the mean of theirs."""

    def __init__(self, rows: Rows, batches: GlobalBatches, accumulation: int, folder: Path) -> None:
        self._rows, self._batches, self._accumulation, self._folder = rows, batches, accumulation, folder

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        """Raises RunError, with the step and the rows of its batch; never their texts."""
        if "loss" not in logs or math.isfinite(logs["loss"]):
            return
        steps = math.ceil(self._batches.steps / self._accumulation)
        first = (state.global_step - 1) % steps * self._accumulation
        rows = self._batches.rows_of(first, first + self._accumulation)
        named = self._rows.named(rows)
        if state.is_world_process_zero:
            write_json(self._folder / "not-finite.json", {"step": state.global_step, "rows": named})
        few = ", ".join(named[:ROWS_TOLD]) + (f" and {len(named) - ROWS_TOLD:,} more" if len(named) > ROWS_TOLD else "")
        what = f"the loss is {logs['loss']} at step {state.global_step}; its batch: {few}"
        mend = (
            "Lower `train.learning_rate`, raise `train.temperature`, or train in another `train.precision`. "
            f"All rows of the batch are in {self._folder / 'not-finite.json'}."
        )
        raise RunError.of(what, "train", mend)


class StopAfterStep(TrainerCallback):  # type: ignore[misc]
    """After SIGTERM in any of the processes, all save a checkpoint after the same step, and training ends."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if stopping.asked():
            control.should_save = control.should_training_stop = True


class Progress(TrainerCallback):  # type: ignore[misc]
    """A bar of steps with loss, learning rate, pairs a second and the time left; a line now and then where there is no terminal."""

    def __init__(self, pairs: int) -> None:
        """`pairs`: that a step learns from."""
        self._pairs = pairs

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._begun = state.global_step
        self._started, self._told = time.monotonic(), -math.inf
        self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc="train", unit="step", disable=None)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" not in logs:
            return
        now = time.monotonic()
        rate = (state.global_step - self._begun) / max(now - self._started, 1e-9)
        facts = [f"loss {logs['loss']:.3f}", f"lr {logs['learning_rate']:.1e}", f"{rate * self._pairs:,.0f} pairs/s"]
        if not self._bar.disable:
            self._bar.set_postfix_str(", ".join(facts), refresh=False)
            self._bar.update(state.global_step - self._bar.n)
        elif now - self._told >= TOLD_EVERY or state.global_step == state.max_steps:
            self._told = now
            left = timedelta(seconds=round((state.max_steps - state.global_step) / rate))
            log.info("train: step %d of %d, %s, %s left", state.global_step, state.max_steps, ", ".join(facts), left)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.close()


@contextmanager
def randomness_untouched() -> Iterator[None]:
    """What is drawn in this block changes nothing of what is drawn after it."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
