"""What happens around the steps of training: batches hear of their epoch, the progress bar of the loss."""

from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

from medembed.train.batches import GlobalBatches


class Epochs(TrainerCallback):  # type: ignore[misc]
    """Tells the batches their epoch: in a resumed run of several processes nobody else does."""

    def __init__(self, batches: GlobalBatches) -> None:
        self._batches = batches

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._batches.set_epoch(state.global_step // self._batches.steps)


class Bar(TrainerCallback):  # type: ignore[misc]
    """A progress bar over steps, with the loss."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc="train", unit="step")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" in logs:
            self._bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)
            self._bar.update(state.global_step - self._bar.n)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.close()
