"""Model and rows → trained weights, by sentence-transformers' trainer: cached multiple-negatives ranking loss, linear schedule.

Runs alike in each process. What is ours: global batches, checkpoints that are known to be whole, no text of the data in any file,
and a stop at the first loss that is not a number.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from transformers import PrinterCallback
from transformers.training_args import ParallelMode

from medembed.errors import RunError
from medembed.processes import processes
from medembed.recipe import Train
from medembed.train.batches import GlobalBatches
from medembed.train.callbacks import Bar, Epochs
from medembed.train.checkpoints import CompletionMark, full_disk_is_seen
from medembed.train.data import Rows
from medembed.train.losses import loss_of


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
        dataloader_num_workers=_tokenising_ahead(),
        ddp_broadcast_buffers=False,  # constants; and processes go through the model as often as their own texts need
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
    trainer = _Trainer(model=model, args=args, train_dataset=rows.dataset, loss=loss_of(train, model), batches=batches)
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return Trained(weights, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry])


def _tokenising_ahead() -> int:
    """Processes that tokenise the next batches: a GPU is faster than one alone; on a CPU, where it is 1 to 3 % of the work, none."""
    return min(8, max(2, torch.get_num_threads() - 1)) if torch.cuda.is_available() else 0


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
        self.add_callback(Epochs(batches))
        self.add_callback(CompletionMark())
        if self.is_world_process_zero():
            self.add_callback(Bar())

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
