"""What would make a run worthless is told before its first step, in plain words and all at once: recipe, rows and model in; figures out.

What cannot end well stops the run. What may be meant so is a warning. The figures go into the record either way.
"""

import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medembed import models
from medembed.errors import Fault, InputError, all_told
from medembed.processes import processes, sharded
from medembed.recipe import ModelRecipe, Train
from medembed.run import sha256
from medembed.train import data
from medembed.train.batches import GlobalBatches
from medembed.train.contamination import shared_with
from medembed.train.trainer import lengths_in_training, prompts_by_column

log = logging.getLogger(__name__)

FEW = 16  # passages: a query that is compared with fewer learns little
ONE_HOT, FLAT = 0.99, 0.02  # mean probability of the teacher's best passage: above the one, or so little above a guess
LEFT_OUT = 0.05  # share of the rows that may find no place in a batch without a warning
LOW, HOPELESS = 0.05, 0.25  # the lowest loss that can be reached, by that of guessing
SAMPLE = 512  # rows whose texts are counted in tokens
WHOLE = 0.95  # share of each column's texts that the suggested length keeps


@dataclass
class Looked:
    """What a check found: figures for the record, and what may be meant so."""

    figures: Any
    warnings: list[Fault] = field(default_factory=list)


def processes_fit(train: Train) -> None:
    """Raises InputError, with all faults, when the processes were not started in a way that trains well."""
    world, faults = processes().num_processes, []
    if int(os.environ.get("WORLD_SIZE", "1")) != world:
        mend = "On CPU: `accelerate launch --multi_gpu --num_processes N`."
        faults.append(Fault("several processes were started that would train apart", "accelerate", mend))
    if sharded() and not torch.cuda.is_available():
        mend = "Launch with recipes/accelerate/ddp.yaml or cpu.yaml."
        faults.append(
            Fault("without GPUs Accelerate shares out no weights (FSDP), and does not say so", "accelerate", mend)
        )
    if sharded() and train.lora:
        mend = "Launch with recipes/accelerate/ddp.yaml: what is trained is small there, too."
        faults.append(Fault("adapters cannot be merged into weights that are shared out (FSDP)", "train.lora", mend))
    if world == 1 and torch.cuda.device_count() > 1:
        mend = "Launch with `--multi_gpu`, or show it one: `CUDA_VISIBLE_DEVICES=0`."
        faults.append(Fault(f"one process sees {torch.cuda.device_count()} GPUs", "accelerate", mend))
    if train.batch_size % world:
        what = f"a batch of {train.batch_size} cannot be shared by {world} processes"
        faults.append(Fault(what, "train.batch_size", f"Make it a multiple of {world}."))
    if train.precision == "fp16" and not torch.cuda.is_available():
        faults.append(Fault("fp16 needs a GPU", "train.precision", "Use `fp32` here."))
    if faults:
        raise InputError(*faults)


def batches_of(rows: data.Rows, train: Train) -> GlobalBatches:
    batches = GlobalBatches(rows.texts, train.batch_size, processes().num_processes, train.seed)
    if not batches.steps:
        what = f"{len(rows.dataset)} rows fill no batch of {train.batch_size} in which no row's answer is another's negative"
        raise InputError.of(what, "train.batch_size", "Lower it, or train on more rows.")
    return batches


def before_the_first_step(
    recipe: ModelRecipe, found: data.Found, rows: data.Rows, batches: GlobalBatches
) -> dict[str, Any]:
    """The figures of all checks, by name; what they warn of is logged.

    Raises:
        InputError: with all that cannot end well.
    """
    train, columns = recipe.train, rows.columns
    checks: dict[str, Callable[[], Looked]] = {
        "loss": partial(loss_can_learn, train, passages=train.batch_size * (len(columns) - 1)),
        "rows": partial(rows_find_a_place, batches.rows, len(rows.dataset)),
        "dimensions": partial(dimensions_are_there, recipe),
        "teacher": partial(teacher_tells_apart, train, rows.teacher),
        "distillation": partial(teacher_can_be_followed, train, rows.teacher),
        "lengths": partial(texts_fit, recipe, rows, columns),
        "manifest": partial(manifest_matches, found, recipe.data.config),
        "tasks": partial(tasks_are_not_trained_on, recipe, rows, columns),
    }
    looked: dict[str, Looked] = {}

    def look(name: str) -> None:
        looked[name] = checks[name]()
        for warning in looked[name].warnings:
            log.warning("warning: %s", warning)

    all_told(partial(look, name) for name in checks)
    return {name: of_one.figures for name, of_one in looked.items()}


def loss_can_learn(train: Train, passages: int) -> Looked:
    """Cosines lie in [-1, 1], so at a high temperature even perfect embeddings leave a query in doubt among its `passages`."""
    if not train.losses.contrastive:
        return Looked(None)
    lowest = math.log1p((passages - 1) * math.exp(-2 / train.temperature)) / math.log(passages)
    what = (
        f"at temperature {train.temperature:g}, with {passages} passages a query, the loss cannot fall below {lowest:.0%} of that "
        "of guessing"
    )
    warnings = _out_of_reach({Fault(what, "train.temperature", "Lower it: 0.01 to 0.1 is usual."): lowest})
    if passages < FEW:
        mend = "Raise it, or use more hard negatives: the loss of an easy choice teaches little."
        warnings.append(Fault(f"a query is compared with {passages} passages alone", "train.batch_size", mend))
    return Looked({"passages": passages, "lowest": round(lowest, 4)}, warnings)


def teacher_can_be_followed(train: Train, logits: data.Floats | None) -> Looked:
    """Cosines lie in [-1, 1], so at a high temperature no student is as sure as its teacher (rows, 1 + negatives), nor as far apart."""
    if logits is None:
        return Looked(None)
    wanted = logits[:: max(1, len(logits) // SAMPLE)].astype(np.float64) / train.teacher_temperature
    terms = {"distil": least_divergence, "margin_mse": least_margin_error}
    figures = {
        name: round(least(wanted, 2 / train.temperature) / max(least(wanted, 0), 1e-6), 4)
        for name, least in terms.items()
        if getattr(train.losses, name)
    }
    found = {}
    for name, share in figures.items():
        what = (
            f"at temperature {train.temperature:g}, the loss `{name}` cannot fall below {share:.0%} of that of guessing"
        )
        found[Fault(what, "train.temperature", "Lower it, or raise `train.teacher_temperature`.")] = share
    return Looked(figures, _out_of_reach(found))


def _out_of_reach(lowest: dict[Fault, float]) -> list[Fault]:
    """What is to be warned of: fault → the lowest loss that can be reached, by that of guessing.

    Raises:
        InputError: with those that are hopeless.
    """
    if hopeless := [fault for fault, share in lowest.items() if share > HOPELESS]:
        raise InputError(*hopeless)
    return [fault for fault, share in lowest.items() if share > LOW]


def least_divergence(wanted: NDArray[Any], widest: float) -> float:
    """The least mean KL(softmax(wanted) || student), of students whose logits in a row lie at most `widest` apart; NaN is missing."""
    top = np.nanmax(wanted, axis=1, keepdims=True)
    teacher = wanted - top - np.log(np.nansum(np.exp(wanted - top), axis=1, keepdims=True))  # log of probabilities
    # The best student is the teacher, cut off below and above: bisect for the bounds between which its probabilities add up to 1.
    low, high = np.full((len(wanted), 1), -widest - math.log(wanted.shape[1])), np.zeros((len(wanted), 1))
    for _ in range(60):
        middle = (low + high) / 2
        below = np.nansum(np.exp(np.clip(teacher, middle, middle + widest)), axis=1, keepdims=True) < 1
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    student = np.clip(teacher, high, high + widest)
    return float(np.nansum(np.exp(teacher) * (teacher - student), axis=1).mean())


def least_margin_error(wanted: NDArray[Any], widest: float) -> float:
    """The least mean squared error of margins that are at most `widest`; NaN is missing."""
    return float(np.nanmean(np.maximum(abs(wanted[:, :1] - wanted[:, 1:]) - widest, 0) ** 2))


def rows_find_a_place(used: int, rows: int) -> Looked:
    """Rows that share a query or positive stand in different batches; some may find none in an epoch."""
    figures, left = {"rows": rows, "left_out": rows - used}, rows - used
    if left <= LEFT_OUT * rows:
        return Looked(figures)
    what = (
        f"{left:,} of {rows:,} rows ({left / rows:.0%}) are left out of an epoch: they share texts with too many others"
    )
    return Looked(figures, [Fault(what, "train.batch_size", "Lower it, or curate the dataset: `duplicates`.")])


def dimensions_are_there(recipe: ModelRecipe) -> Looked:
    """No Matryoshka dimension is above those of the embeddings."""
    own = models.load(recipe.base, method=recipe.train.method, device="cpu").get_embedding_dimension() or 0
    if beyond := [dimension for dimension in recipe.train.matryoshka if dimension > own]:
        what = f"the embeddings have {own} dimensions: there are no first {max(beyond)}"
        raise InputError.of(what, "train.matryoshka", f"Leave out what is above {own}.")
    return Looked(own)


def teacher_tells_apart(train: Train, logits: data.Floats | None) -> Looked:
    """A teacher whose distributions (rows, 1 + negatives) are all flat teaches nothing; where all are sure, no more than the labels."""
    if logits is None or not train.losses.distil:
        return Looked(None)
    scaled = logits.astype(np.float64) / train.teacher_temperature
    top = np.nanmax(scaled, axis=1)
    surest = 1 / np.nansum(np.exp(scaled - top[:, None]), axis=1)  # probability of a row's best passage
    guess = 1 / (~np.isnan(scaled)).sum(axis=1)
    figures = {
        "probability_of_the_best": round(float(surest.mean()), 4),
        "best_is_the_positive": round(float((scaled[:, 0] == top).mean()), 4),
    }
    told = f"the teacher gives its best passage a probability of {surest.mean():.2f} in the mean"
    if surest.mean() > ONE_HOT:
        mend = "Raise it: so sure, the teacher says no more than which passage is right."
        return Looked(figures, [Fault(told, "train.teacher_temperature", mend)])
    if (surest - guess).mean() < FLAT:
        mend = "Lower it: a teacher that finds all passages alike teaches to find them alike."
        return Looked(figures, [Fault(f"{told}, hardly more than a guess", "train.teacher_temperature", mend)])
    return Looked(figures)


def texts_fit(recipe: ModelRecipe, rows: data.Rows, columns: list[str]) -> Looked:
    """How many texts are longer than training reads, prompt included, by column; from a sample that `train.seed` draws."""
    model = models.load(recipe.base, device="cpu", method=recipe.train.method)
    length = lengths_in_training(model, recipe.train)
    most = {name: length["query" if name == "query" else "document"] for name in columns}
    drawn = np.random.default_rng(recipe.train.seed).permutation(len(rows.dataset))[:SAMPLE]
    sample, prompts = rows.dataset.select(np.sort(drawn)), prompts_by_column(model, columns)
    there = {name: [text for text in sample[name] if text] for name in columns}  # a missing negative is an empty text
    counts = {name: _tokens(model.tokenizer, prompts.get(name, ""), texts) for name, texts in there.items() if texts}
    cut = {name: round(float(np.mean(tokens > most[name])), 3) for name, tokens in counts.items()}
    ruled = [name for name in counts if most[name] == length["document"]]  # by `train.max_length`
    keeps = max(int(np.quantile(counts[name], WHOLE, method="higher")) for name in ruled)
    figures = {
        "max_length": length["document"],
        "query_length": length["query"],
        "cut": cut,
        f"keeps_{WHOLE:.0%}": keeps,
        "sample": len(drawn),
    }
    over = {name: f"{share:.0%} of {name}" for name, share in cut.items() if share > recipe.train.truncated}
    warnings = []
    if "query" not in ruled and (queries := over.pop("query", None)):
        mend = (
            "The base expands each query to this length, whatever the recipe says; choose another, or shorter queries."
        )
        warnings.append(Fault(f"{most['query']} tokens cut {queries}", recipe.base.model, mend))
    if over:
        mend = f"`train.max_length: {keeps}` would keep {WHOLE:.0%} of each column whole"
        mend += f"; the base reads {model.max_seq_length} tokens." if keeps > model.max_seq_length else "."
        warnings.append(Fault(f"{length['document']} tokens cut {', '.join(over.values())}", "train.max_length", mend))
    return Looked(figures, warnings)


def _tokens(tokenizer: Any, prompt: str, texts: list[str]) -> Any:
    """The tokens of each text behind the prompt, special ones included: (texts,)."""
    encoded = tokenizer([prompt + text for text in texts], truncation=False, padding=False, verbose=False)
    return np.array([len(ids) for ids in encoded["input_ids"]])


def manifest_matches(found: data.Found, config: str) -> Looked:
    """The file that is read is the one that the dataset's manifest tells of."""
    stage, table = data.MADE_BY[config]
    told: Any = found.provenance
    for key in ("stages", stage, "outputs", f"{table}.parquet"):
        told = told.get(key) if isinstance(told, dict) else None
    if not isinstance(told, str) or len(found.files) != 1:
        return Looked("says nothing of the file" if found.provenance else "none")
    if (has := sha256(found.files[0])) == told:
        return Looked("matches")
    what = f"provenance.json tells of another {found.files[0].name}: sha256 {told[:12]}…, found {has[:12]}…"
    raise InputError.of(what, found.name, "Fetch the dataset again, whole, at one revision; or publish it anew.")


def tasks_are_not_trained_on(recipe: ModelRecipe, rows: data.Rows, columns: list[str]) -> Looked:
    """No row asks a query that the model is measured by; passages in common are told."""
    development = recipe.train.development
    chosen_by = development.others if development else []
    tasks = dict.fromkeys(recipe.evaluate.tasks, "evaluate.tasks") | dict.fromkeys(chosen_by, "train.development.tasks")
    figures: dict[str, Any] = {}
    faults, warnings = [], []
    for shared in shared_with(list(tasks), rows.dataset.select_columns(columns)):
        figures[shared.name], where = shared.figures, f"{tasks[shared.task]}: {shared.name}"
        if shared.why_not:
            warnings.append(Fault(f"whether it is trained on cannot be told: {shared.why_not}", where))
        if shared.queries:
            mend = "Curate the dataset with `decontaminate`, or name another task."
            faults.append(Fault(f"{shared.queries:,} training rows ask queries of this task", where, mend))
        if shared.passages:
            what = f"{shared.passages:,} of {len(rows.dataset):,} training rows hold passages of this task: no longer zero-shot"
            warnings.append(Fault(what, where))
    if faults:
        raise InputError(*faults)
    return Looked(figures, warnings)
