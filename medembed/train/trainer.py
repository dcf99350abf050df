"""Model and rows → trained weights, by the trainers of sentence-transformers, with a linear schedule. Runs alike in each process.

What is ours, and the same for one vector a text and for one a token: global batches, checkpoints that are known to be whole, no text
of the data in any file, and errors that say what to change.
"""

import copy
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.base.trainer import BaseTrainer
from sentence_transformers.multi_vector_encoder import (
    MultiVectorEncoder,
    MultiVectorEncoderTrainer,
    MultiVectorEncoderTrainingArguments,
)
from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from transformers import PrinterCallback, Trainer, TrainerCallback
from transformers.training_args import ParallelMode

from medembed.errors import RunError, Stopped
from medembed.processes import OfOneProcess, is_lost_peer, processes, sharded
from medembed.recipe import Train
from medembed.train import stopping
from medembed.train.batches import GlobalBatches
from medembed.train.callbacks import Epochs, FiniteLoss, Progress, StopAfterStep, randomness_untouched
from medembed.train.checkpoints import KEPT, CompletionMark, full_disk_is_seen, loading_is_told
from medembed.train.data import Rows
from medembed.train.losses import loss_of

Model: TypeAlias = SentenceTransformer | MultiVectorEncoder


@dataclass
class Trained:
    """New weights for the base model, and the mean loss of each step."""

    weights: dict[str, torch.Tensor]
    losses: list[float]


def fit(
    model: Model,
    rows: Rows,
    batches: GlobalBatches,
    train: Train,
    checkpoints: Path,
    resume: Path | None,
    callbacks: Iterable[TrainerCallback] = (),
) -> Trained:
    """Train `model` in place, from the checkpoint `resume` where there is one.

    Raises:
        RunError: a loss that is not finite, memory or disk that does not suffice, a checkpoint that cannot be loaded.
        Stopped: SIGTERM was heard; a checkpoint of the last step stands.
    """
    trainer_class, arguments_class = TRAINERS[train.method]
    _let_the_recipe_decide()
    if train.report_to:
        _send_reports_to(checkpoints.parent)
    model[0].can_flatten_inputs = False  # parts are cut by padding, whatever attention the base asks for
    if sharded():
        _make_shardable(model)
    args = arguments_class(
        **_lengths(model, train),
        output_dir=str(checkpoints),
        per_device_train_batch_size=batches.batch_size,
        gradient_accumulation_steps=train.accumulation,
        num_train_epochs=train.epochs,
        max_steps=train.max_steps or -1,
        learning_rate=train.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=train.warmup,  # below 1: a share of the steps
        weight_decay=train.weight_decay,
        bf16=train.precision == "bf16",
        fp16=train.precision == "fp16",
        activation_checkpointing=train.activation_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if train.activation_checkpointing else None,
        torch_compile=train.compile,
        use_cpu=not torch.cuda.is_available(),
        dataloader_num_workers=_tokenising_ahead(),
        ddp_broadcast_buffers=False,  # constants; and processes go through the model as often as their own texts need
        seed=train.seed,
        prompts=prompts_by_column(model, rows.columns),
        dataloader_drop_last=True,
        save_strategy="steps",
        save_steps=train.save_steps,
        save_total_limit=KEPT,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=train.report_to,
        project="medembed",
        run_name=checkpoints.parents[1].name,
        disable_tqdm=True,  # it prints each loss; ours is `Progress`
    )
    if processes().num_processes > 1 and args.parallel_mode != ParallelMode.DISTRIBUTED:
        raise AssertionError("several processes that do not train together")
    trainer = trainer_class(
        model=model, args=args, train_dataset=rows.dataset, loss=loss_of(train, model, rows), batches=batches
    )
    trainer.remove_callback(PrinterCallback)
    ours = [
        Epochs(batches, train.accumulation),
        FiniteLoss(rows, batches, train.accumulation, checkpoints.parent),
        StopAfterStep(),
        CompletionMark(),
        *callbacks,
    ]
    if trainer.is_world_process_zero():
        ours.append(Progress(train.batch_size * train.accumulation))
    for callback in ours:
        trainer.add_callback(callback)
    with stopping.after_the_step(), _failure_is_told(train):
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    done, wanted = trainer.state.global_step, trainer.state.max_steps
    if done < wanted:
        raise Stopped(
            f"stopped after step {done} of {wanted}, whose checkpoint is saved; the same command goes on from there"
        )
    weights = trainer.accelerator.get_state_dict(trainer.model)
    return Trained(weights, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry])


def _let_the_recipe_decide() -> None:
    """Drop what the launcher, or this machine's config of it, says of precision and `torch.compile`: the library would follow it."""
    for name in ("ACCELERATE_MIXED_PRECISION", "ACCELERATE_DYNAMO_BACKEND"):
        os.environ.pop(name, None)


def _tokenising_ahead() -> int:
    """Processes that tokenise the next batches: a GPU is faster than one alone; on a CPU, where it is 1 to 3 % of the work, none."""
    return min(8, max(2, torch.get_num_threads() - 1)) if torch.cuda.is_available() else 0


def _lengths(model: Model, train: Train) -> dict[str, dict[str, int]]:
    """Set the number of tokens that texts are cut to: on the model, or as an argument where queries have a length of their own."""
    if not train.max_length:
        return {}
    if train.method == "late-interaction":
        return {"max_length": lengths_in_training(model, train)}
    model.max_seq_length = train.max_length
    return {}


def lengths_in_training(model: Model, train: Train) -> dict[str, int]:
    """How many tokens of a `query` and of a `document` are read. Queries that late interaction expands have a length of their own."""
    most = train.max_length or model.max_seq_length
    if train.method == "dense":
        return {"query": most, "document": most}
    own, expansion = model[0], model[0].query_expansion or {"strategy": "none", "length": 0}
    query = 0 if expansion["strategy"] == "fixed" else train.max_length or own.query_length or most
    document = train.max_length or own.document_length or most
    return {"query": max(query, expansion["length"]), "document": document}


def prompts_by_column(model: Model, columns: list[str]) -> dict[str, str]:
    """The prompt that each column is trained with: the one that `encode_query` and `encode_document` would use."""

    def prompt(*names: str) -> str:
        name = next((name for name in names if name in model.prompts), model.default_prompt_name)
        return model.prompts[name] if name else ""

    query, document = prompt("query"), prompt("document", "passage", "corpus")
    return {name: text for name in columns if (text := query if name == "query" else document)}


def _make_shardable(model: Model) -> None:
    """Tell Accelerate what it cannot find in a model of sentence-transformers: which of its parts are sharded, each as a whole."""
    backbone = model[0].model
    os.environ.setdefault("FSDP_TRANSFORMER_CLS_TO_WRAP", ",".join(backbone._no_split_modules or ()))
    if pooler := getattr(
        backbone, "pooler", None
    ):  # no loss reaches it, and a state of the optimizer without it is refused
        pooler.requires_grad_(False)
    # It would take the module `Normalize`, which has no weights, for a layer norm and fail: here it looks for one and finds none.
    model.base_model_prefix = "none"


def _send_reports_to(folder: Path) -> None:
    """Where `report_to` writes, if the user's environment says nothing else: by default it would be removed with the checkpoints."""
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(folder / "tensorboard"))
    os.environ.setdefault("WANDB_DIR", str(folder))
    os.environ.setdefault("WANDB_PROJECT", "medembed")


@contextmanager
def _failure_is_told(train: Train) -> Iterator[None]:
    """Say what to lower when there is no memory left, for which torch has no error of its own on the CPU; and who failed first."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if is_lost_peer(error):
            raise RunError.of(
                "another of the processes has ended", "train", "What that one says is the cause."
            ) from error
        if type(error) is RuntimeError and "DefaultCPUAllocator" not in str(error):
            raise
        mends = [f"lower `train.mini_batch_size` ({train.mini_batch_size}), which changes no result"]
        if not train.activation_checkpointing:
            mends.append("set `train.activation_checkpointing: true`, which changes none either")
        mends.append(f"lower `train.max_length` ({train.max_length or 'the base has its own'})")
        if train.lora is None and not sharded():
            mends.append("use `train.lora`")
        raise OfOneProcess.of("out of memory", "train", f"In this order: {'; '.join(mends)}.") from error


class _Ours(BaseTrainer):  # type: ignore[misc]
    """A trainer of the library with our batches, without its model card, and with checkpoints that can be trusted."""

    def __init__(self, *, batches: GlobalBatches, **settings: Any) -> None:
        self._batches = batches
        # Sharded weights cannot be saved as a model: a copy takes them when they are gathered.
        self._whole = copy.deepcopy(settings["model"]).cpu() if sharded() and processes().is_main_process else None
        super().__init__(**settings)

    def get_batch_sampler(self, *_: Any, **__: Any) -> GlobalBatches:
        return self._batches

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """No card here: the library's would quote training texts. `publish` writes the one that readers see."""

    def _run_epoch(self, **settings: Any) -> None:
        """The library does one step more when it resumes from the last checkpoint of a run that ends within an epoch."""
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(**settings)

    def _maybe_log_save_evaluate(self, *settings: Any, **named: Any) -> None:
        """Whoever measures a checkpoint, in the main process, leaves no trace in the training; the others wait at their next step."""
        with randomness_untouched() if self.control.should_save else nullcontext():
            super()._maybe_log_save_evaluate(*settings, **named)

    def _save(self, output_dir: str, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """`state_dict`: the whole weights, where each process has a shard of them (FSDP)."""
        if not self.args.should_save:
            return
        if self._whole is not None and state_dict is not None:
            self._whole.load_state_dict(state_dict)
        (self._whole or self.model).save_pretrained(output_dir, create_model_card=False)

    def _save_checkpoint(self, *settings: Any, **named: Any) -> None:
        with full_disk_is_seen(Path(self.args.output_dir)):
            super()._save_checkpoint(*settings, **named)

    def _load_from_checkpoint(self, checkpoint: str, sharded_model: Any = None) -> None:
        with loading_is_told(Path(checkpoint)):
            if sharded_model is None:
                super()._load_from_checkpoint(checkpoint)
            else:  # sentence-transformers' own cannot: it loads a model, which has no shards
                Trainer._load_from_checkpoint(self, checkpoint, sharded_model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with loading_is_told(Path(checkpoint or "")):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with loading_is_told(Path(checkpoint or "")):
            super()._load_rng_state(checkpoint)


class _DenseTrainer(_Ours, SentenceTransformerTrainer):  # type: ignore[misc]
    """One vector a text."""


class _LateInteractionTrainer(_Ours, MultiVectorEncoderTrainer):  # type: ignore[misc]
    """One vector a token."""


TRAINERS = {
    "dense": (_DenseTrainer, SentenceTransformerTrainingArguments),
    "late-interaction": (_LateInteractionTrainer, MultiVectorEncoderTrainingArguments),
}
