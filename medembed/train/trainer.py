"""Model and rows → trained weights, by sentence-transformers' trainer: cached multiple-negatives ranking loss, linear schedule.

Runs alike in each process. What is ours: global batches, checkpoints that are known to be whole, no text of the data in any file,
and a stop at the first loss that is not a number.
"""

import errno
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from tqdm import tqdm
from transformers import PrinterCallback, TrainerCallback
from transformers.training_args import ParallelMode

from medembed.errors import RunError
from medembed.processes import processes
from medembed.recipe import Train
from medembed.run import read_json, sha256, write_json
from medembed.train.batches import GlobalBatches
from medembed.train.data import Rows

log = logging.getLogger(__name__)

COMPLETE = "complete.json"  # written last into a checkpoint: file → sha256


@dataclass
class Trained:
    """New weights for the base model, and the mean loss of each step."""

    weights: dict[str, torch.Tensor]
    losses: list[float]


def fit(
    model: SentenceTransformer, rows: Rows, batches: GlobalBatches, train: Train, checkpoints: Path, resume: Path | None
) -> Trained:
    """Train `model` in place, from the checkpoint `resume` where there is one.

    Raises:
        RunError: a loss that is not finite.
    """
    world = processes().num_processes
    if train.max_length:
        model.max_seq_length = train.max_length
    loss = CachedMultipleNegativesRankingLoss(
        model,
        scale=1 / train.temperature,
        mini_batch_size=train.mini_batch_size,
        gather_across_devices=world > 1,
    )
    args = SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=batches.batch_size,
        num_train_epochs=train.epochs,
        max_steps=train.max_steps or -1,
        learning_rate=train.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=train.warmup,  # below 1: a share of the steps
        weight_decay=train.weight_decay,
        bf16=train.precision == "bf16",
        fp16=train.precision == "fp16",
        use_cpu=not torch.cuda.is_available(),
        seed=train.seed,
        prompts=_prompts_by_column(model, rows.dataset.column_names),
        dataloader_drop_last=True,
        save_strategy="steps",
        save_steps=train.save_steps,
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,  # it prints each loss; ours is `_Bar`
    )
    if world > 1 and args.parallel_mode != ParallelMode.DISTRIBUTED:
        raise AssertionError("several processes that do not train together")
    trainer = _Trainer(model=model, args=args, train_dataset=rows.dataset, loss=loss, batches=batches)
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return Trained(weights, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry])


def last_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that is whole; later ones, which a killed process left half-written, are removed."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.partition("-")[2]), reverse=True):
        if _is_whole(checkpoint):
            return checkpoint
        log.warning("%s is not whole and is removed", checkpoint.name)
        shutil.rmtree(checkpoint)
    return None


@contextmanager
def full_disk_is_seen(folder: Path) -> Iterator[None]:
    """Raise a full disk as the OSError that it is: torch and safetensors hide it behind errors of their own."""
    try:
        yield
    except Exception as error:
        if shutil.disk_usage(folder).free > 1_000_000:
            raise
        raise OSError(errno.ENOSPC, "no space left", str(folder)) from error


def _is_whole(checkpoint: Path) -> bool:
    mark = checkpoint / COMPLETE
    if not mark.exists():
        return False
    files: dict[str, str] = read_json(mark)
    return all((checkpoint / name).exists() and sha256(checkpoint / name) == found for name, found in files.items())


def _prompts_by_column(model: SentenceTransformer, columns: list[str]) -> dict[str, str]:
    """The prompt that each column is trained with: the one that `encode_query` and `encode_document` would use."""

    def prompt(*names: str) -> str:
        name = next((name for name in names if name in model.prompts), model.default_prompt_name)
        return model.prompts[name] if name else ""

    query, document = prompt("query"), prompt("document", "passage", "corpus")
    return {name: text for name in columns if (text := query if name == "query" else document)}


class _Trainer(SentenceTransformerTrainer):  # type: ignore[misc]
    """The library's trainer with our batches and without its model card."""

    def __init__(self, *, batches: GlobalBatches, **settings: Any) -> None:
        super().__init__(**settings)
        self._batches = batches
        self.add_callback(_Epochs(batches))
        self.add_callback(_CompletionMark())
        if self.is_world_process_zero():
            self.add_callback(_Bar())

    def get_batch_sampler(self, *_: Any, **__: Any) -> GlobalBatches:
        return self._batches

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """No card here: the library's would quote training texts. `publish` writes the one that readers see."""

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            mend = "Lower `train.learning_rate`, raise `train.temperature`, or train in another `train.precision`."
            raise RunError.of(f"the loss is {loss.item()} at step {self.state.global_step + 1}", "train", mend)
        return loss

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        self.model.save_pretrained(output_dir, create_model_card=False)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with full_disk_is_seen(Path(self.args.output_dir)):
            super()._save_checkpoint(*args, **kwargs)


class _Epochs(TrainerCallback):  # type: ignore[misc]
    """Tells the batches their epoch: in a resumed run of several processes nobody else does."""

    def __init__(self, batches: GlobalBatches) -> None:
        self._batches = batches

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._batches.set_epoch(state.global_step // self._batches.steps)


class _CompletionMark(TrainerCallback):  # type: ignore[misc]
    """Marks a checkpoint as whole when every process has written its part."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        processes().wait_for_everyone()
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != COMPLETE)
            write_json(folder / COMPLETE, {p.relative_to(folder).as_posix(): sha256(p) for p in files})


class _Bar(TrainerCallback):  # type: ignore[misc]
    """A progress bar over steps, with the loss."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc="train", unit="step")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" in logs:
            self._bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)
            self._bar.update(state.global_step - self._bar.n)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.close()
