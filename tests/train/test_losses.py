"""What is minimised, against the formulas written out once more, pair by pair, in plain torch without mini-batches; and the library's."""

import copy
import json
import random
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from sentence_transformers.multi_vector_encoder.losses import CachedMultiVectorMultipleNegativesRankingLoss
from sentence_transformers.multi_vector_encoder.scoring import mean_colbert_scores
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    DistillKLDivLoss,
    MarginMSELoss,
    MatryoshkaLoss,
)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from medembed.recipe import Train
from medembed.train.data import LABEL, Rows
from medembed.train.guide import Guided
from medembed.train.losses import compared_with, loss_of
from tests.fixtures.models import WORDS
from tests.train.conftest import environment

ROWS, NEGATIVES = 5, 2
LACKS = {(1, 1), (4, 1)}  # rows 1 and 4 have no second negative
TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 2.0

Encoder = SentenceTransformer | MultiVectorEncoder


def rows(*, whole: bool = False) -> Rows:
    """Five rows with texts of uneven lengths, a teacher's logits, and a guide's embeddings; two rows lack a negative unless `whole`."""
    draw, numbers = random.Random(3), np.random.default_rng(3)
    names = ["query", "positive", "negative_1", "negative_2"]
    table = {name: [" ".join(draw.choices(WORDS, k=draw.randint(1, 9))) for _ in range(ROWS)] for name in names}
    missing = np.zeros((ROWS, NEGATIVES), dtype=bool)
    teacher = numbers.normal(scale=3, size=(ROWS, 1 + NEGATIVES)).astype(np.float32)
    for row, negative in () if whole else LACKS:
        table[f"negative_{negative + 1}"][row] = ""
        missing[row, negative], teacher[row, 1 + negative] = True, np.nan
    texts = np.arange(ROWS * 4).reshape(ROWS, 4)
    return Rows(
        Dataset.from_dict(table | {LABEL: list(range(ROWS))}),
        texts,
        missing,
        teacher,
        [],
        ROWS,
        np.arange(1, ROWS + 1),
        None,
    )


def guide(relative_margin: float) -> Guided:
    """A guide that finds a positive near its query, and some other passages nearer."""
    draw = np.random.default_rng(5)
    queries, passages = draw.normal(size=(ROWS, 8)), draw.normal(size=(ROWS * (1 + NEGATIVES), 8))
    passages[:: 1 + NEGATIVES] += 0.8 * queries
    unit = [(each / np.linalg.norm(each, axis=1, keepdims=True)).astype(np.float16) for each in (queries, passages)]
    return Guided(unit[0], unit[1], np.arange(len(passages)).reshape(ROWS, -1), relative_margin)


@pytest.fixture(scope="module")
def dense(tiny_model: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model), device="cpu")


@pytest.fixture(scope="module")
def late(tiny_model: Path) -> MultiVectorEncoder:
    torch.manual_seed(0)
    return MultiVectorEncoder(str(tiny_model), device="cpu")


def features(model: Encoder, rows: Rows, batch: list[int]) -> tuple[list[dict[str, Any]], Tensor]:
    texts = rows.dataset[batch]
    columns = [model.preprocess(texts[name], task="document" if n else "query") for n, name in enumerate(rows.columns)]
    return columns, torch.tensor(texts[LABEL])


def found(model: Encoder, loss: torch.nn.Module, inputs: tuple[list[dict[str, Any]], Tensor]) -> tuple[float, Tensor]:
    """The loss of a batch, and the gradient of all parameters as one vector."""
    model.zero_grad()
    value = loss(*copy.deepcopy(inputs))
    value.backward()
    flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return value.item(), torch.cat([each.flatten() for each in flat])


# ---- the formulas once more ----


def by_hand(model: Encoder, train: Train, rows: Rows, columns: list[dict[str, Any]], labels: Tensor) -> Tensor:
    late, dims = train.method == "late-interaction", [None, *train.matryoshka]
    embedded = [_embedded(model, each, late, n) for n, each in enumerate(columns)]
    return sum(_at(train, rows, labels.tolist(), embedded, dim) for dim in dims) / len(dims)


def _embedded(model: Encoder, column: dict[str, Any], late: bool, at: int) -> list[Tensor]:
    """One tensor a text: (D,), or (tokens, D)."""
    out = model(dict(column), task="document" if at else "query")
    if not late:
        return list(out["sentence_embedding"])
    return [tokens[mask.bool()] for tokens, mask in zip(out["token_embeddings"], out["attention_mask"], strict=True)]


def _at(train: Train, rows: Rows, batch: list[int], embedded: list[list[Tensor]], dim: int | None) -> Tensor:
    def score(query: Tensor, passage: Tensor) -> Tensor:
        query, passage = query[..., :dim], passage[..., :dim]
        if query.dim() == 1:
            return F.cosine_similarity(query, passage, dim=0)
        return F.cosine_similarity(query[:, None], passage[None], dim=-1).amax(1).mean()

    size, total = len(batch), torch.zeros(())
    there = [
        (c, r) for c in range(1, len(embedded)) for r in range(size) if c == 1 or not rows.missing[batch[r], c - 2]
    ]
    logit = {
        (q, c, r): score(embedded[0][q], embedded[c][r]) / train.temperature for q in range(size) for c, r in there
    }
    for i in range(size):
        if train.losses.contrastive:
            others = [(c, r) for c, r in there if (c, r) == (1, i) or not _right(rows, batch, i, c, r, i)]
            term = _log_sum_exp([logit[i, c, r] for c, r in others]) - logit[i, 1, i]
            if train.symmetric:
                asking = [q for q in range(size) if q == i or not _right(rows, batch, q, 1, i, i)]
                term = (term + _log_sum_exp([logit[q, 1, i] for q in asking]) - logit[i, 1, i]) / 2
            total = total + train.losses.contrastive * term
        own = [c for c, r in there if r == i]
        student = torch.stack([logit[i, c, i] for c in own])
        teacher = torch.tensor([float(rows.teacher[batch[i], c - 1]) for c in own]) / train.teacher_temperature
        if train.losses.distil:
            wanted, given = teacher.softmax(0), student.softmax(0)
            total = total + train.losses.distil * (wanted * (wanted / given).log()).sum()
        if train.losses.margin_mse:
            errors = [((student[0] - student[k]) - (teacher[0] - teacher[k])) ** 2 for k in range(1, len(own))]
            total = total + train.losses.margin_mse * sum(errors) / len(errors)
    return total / size


def _right(rows: Rows, batch: list[int], query: int, column: int, row: int, pair: int) -> bool:
    """Whether the guide scores a query with a passage about as high as a row's own pair."""
    if rows.guide is None:
        return False

    def score(query: int, column: int, row: int) -> float:
        a = rows.guide.queries[batch[query]].astype(np.float64)
        return float(a @ rows.guide.passages[rows.guide.at[batch[row], column - 1]].astype(np.float64))

    own = score(pair, 1, pair)
    return score(query, column, row) > own - rows.guide.relative_margin * abs(own)


def _log_sum_exp(logits: list[Tensor]) -> Tensor:
    return torch.stack(logits).exp().sum().log()


SUM = {"contrastive": 1.0, "distil": 0.7, "margin_mse": 0.05}
DENSE: dict[str, dict[str, Any]] = {
    "contrastive": {"losses": {"contrastive": 1.0}},
    "distil": {"losses": {"distil": 2.0}},
    "margin_mse": {"losses": {"margin_mse": 0.5}},
    "sum": {"losses": SUM},
    "symmetric": {"losses": {"contrastive": 1.0}, "symmetric": True},
    "matryoshka": {"losses": SUM, "matryoshka": [8, 20]},
    "guided": {"losses": SUM, "symmetric": True, "guide": {"model": "org/guide", "relative_margin": 0.1}},
}
LATE = {name: said | {"method": "late-interaction"} for name, said in DENSE.items() if name != "matryoshka"}


def settings(said: dict[str, Any]) -> Train:
    taught = {"teacher_temperature": TEACHER_TEMPERATURE} if said["losses"].keys() != {"contrastive"} else {}
    return Train(temperature=TEMPERATURE, mini_batch_size=3, **taught, **said)


@pytest.mark.parametrize("lacking", [False, True], ids=["whole rows", "rows that lack negatives"])
@pytest.mark.parametrize("said", [*DENSE.values(), *LATE.values()], ids=[*DENSE, *(f"late {name}" for name in LATE)])
def test_value_and_gradients_are_those_of_the_formula(
    dense: SentenceTransformer, late: MultiVectorEncoder, said: dict[str, Any], lacking: bool
) -> None:
    train, data = settings(said), rows(whole=not lacking)
    data.guide = guide(train.guide.relative_margin) if train.guide else None
    model = late if train.method == "late-interaction" else dense
    inputs = features(model, data, [3, 4, 0, 1, 2])
    value, gradient = found(model, loss_of(train, model, data), inputs)
    expected, by_formula = found(model, partial(by_hand, model, train, data), inputs)
    assert value == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gradient, by_formula, rtol=1e-3, atol=1e-6 * by_formula.abs().max().item() + 1e-7)
    assert gradient.abs().max() > 1e-4


# ---- and the library's ----


def _of_library(name: str, model: SentenceTransformer) -> tuple[torch.nn.Module, float]:
    """The same loss as sentence-transformers has it, and how many times ours it is."""
    contrastive = partial(CachedMultipleNegativesRankingLoss, model, scale=1 / TEMPERATURE, mini_batch_size=3)
    if name == "contrastive":
        return contrastive(), 1
    if name == "symmetric":
        return contrastive(directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"), 1
    if name == "matryoshka":
        return MatryoshkaLoss(model, contrastive(), [32, 20, 8]), 3
    if name == "distil":
        temperatures = {"student_temperature": TEMPERATURE, "teacher_temperature": TEACHER_TEMPERATURE}
        return DistillKLDivLoss(model, **temperatures), TEMPERATURE**2
    assert name == "margin_mse"
    return MarginMSELoss(model, similarity_fct=lambda a, b: F.cosine_similarity(a, b) / TEMPERATURE), 1


@pytest.mark.parametrize("name", ["contrastive", "symmetric", "matryoshka", "distil", "margin_mse"])
def test_of_whole_rows_each_term_is_that_of_sentence_transformers(dense: SentenceTransformer, name: str) -> None:
    data, said = rows(whole=True), copy.deepcopy(DENSE[name])
    said["losses"] = {name if name in SUM else "contrastive": 1.0}
    columns, labels = features(dense, data, [3, 4, 0, 1, 2])
    value, gradient = found(dense, loss_of(settings(said), dense, data), (columns, labels))
    theirs, times = _of_library(name, dense)
    teacher = torch.from_numpy(data.teacher)[labels] / (TEACHER_TEMPERATURE if name == "margin_mse" else 1)
    expected, their_gradient = found(dense, theirs, (columns, teacher))
    assert value * times == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gradient * times, their_gradient, rtol=1e-3, atol=1e-6)


def test_late_interaction_is_that_of_sentence_transformers(late: MultiVectorEncoder) -> None:
    data = rows(whole=True)
    inputs = features(late, data, [3, 4, 0, 1, 2])
    theirs = CachedMultiVectorMultipleNegativesRankingLoss(
        late, scale=1 / TEMPERATURE, similarity_fct=mean_colbert_scores
    )
    expected, their_gradient = found(late, theirs, inputs)
    value, gradient = found(late, loss_of(settings(LATE["contrastive"]), late, data), inputs)
    assert value == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gradient, their_gradient, rtol=1e-3, atol=1e-6)


# ---- what follows from the formulas ----


@pytest.mark.parametrize("temperature", [0.02, 0.5])
def test_contrastive_and_distil_are_equally_strong_at_equal_weights(
    dense: SentenceTransformer, temperature: float
) -> None:
    """A teacher that is sure of the positive says what a contrastive loss over the row's own passages says."""
    data = rows(whole=True)
    data.teacher = np.tile(np.float32([1e4, 0, 0]), (ROWS, 1))
    results = []
    for losses in ({"contrastive": 1.0}, {"distil": 1.0}):
        train = Train(losses=losses, temperature=temperature)
        results.append(found(dense, loss_of(train, dense, data), features(dense, data, [2])))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-4)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["sum", "late sum"])
def test_what_stands_where_a_row_lacks_a_negative_changes_nothing(
    dense: SentenceTransformer, late: MultiVectorEncoder, name: str
) -> None:
    model = late if name.startswith("late") else dense
    train, results = settings(LATE["sum"] if model is late else DENSE["sum"]), []
    for text in ("", "chest pain with fever and cough"):
        data = rows()
        column = [text if (row, 1) in LACKS else each for row, each in enumerate(data.dataset["negative_2"])]
        data.dataset = data.dataset.remove_columns(["negative_2", LABEL])
        data.dataset = data.dataset.add_column("negative_2", column).add_column(LABEL, list(range(ROWS)))
        results.append(found(model, loss_of(train, model, data), features(model, data, [3, 4, 0, 1, 2])))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [2, 64])
def test_mini_batches_change_neither_value_nor_gradients(dense: SentenceTransformer, size: int) -> None:
    data, said = rows(), DENSE["sum"] | {"symmetric": True, "matryoshka": [8]}
    inputs = features(dense, data, [3, 4, 0, 1, 2])
    expected, by_threes = found(dense, loss_of(settings(said), dense, data), inputs)
    loss = loss_of(settings(said), dense, data)
    loss.mini_batch_size = size
    value, gradient = found(dense, loss, inputs)
    assert value == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(gradient, by_threes, rtol=1e-4, atol=1e-6)


def test_the_dimension_that_embeddings_have_counts_once_whether_it_is_named_or_not(dense: SentenceTransformer) -> None:
    data = rows()
    named, silent = (loss_of(settings(DENSE["sum"] | {"matryoshka": said}), dense, data) for said in ([32, 8], [8]))
    columns = [torch.randn(ROWS, 32) for _ in range(2 + NEGATIVES)]
    assert named.of_columns(columns, torch.arange(ROWS)) == silent.of_columns(columns, torch.arange(ROWS))


def test_a_loss_can_be_looked_at_without_gradients(dense: SentenceTransformer) -> None:
    data = rows()
    loss = loss_of(settings(DENSE["sum"]), dense, data)
    inputs = features(dense, data, [3, 4, 0, 1, 2])
    with torch.no_grad():
        looked_at = loss(*copy.deepcopy(inputs)).item()
    assert looked_at == pytest.approx(found(dense, loss, inputs)[0], rel=1e-6)


class _Largest(TorchDispatchMode):
    """The most numbers that one tensor made meanwhile holds."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self.numbers = max(self.numbers, made.numel() if isinstance(made, Tensor) else 0)
        return made


def test_no_more_logits_are_held_than_those_of_a_mini_batch(dense: SentenceTransformer) -> None:
    batch, size = 64, 4
    data = rows(whole=True)
    loss = loss_of(settings(DENSE["sum"] | {"symmetric": True}), dense, data)
    loss.mini_batch_size = size
    columns = [torch.randn(batch, 4, requires_grad=True) for _ in range(2 + NEGATIVES)]
    with _Largest() as largest:
        loss.of_columns(columns, torch.arange(batch) % ROWS, with_backward=True)
    assert largest.numbers <= max(size * batch * (1 + NEGATIVES), batch * (1 + NEGATIVES) * 4) < batch**2 / 4
    assert all(column.grad is not None for column in columns)


def test_logits_are_float32_whatever_the_model_computes_in(dense: SentenceTransformer) -> None:
    data = rows()
    loss = loss_of(settings(DENSE["sum"]), dense, data)
    columns = [torch.randn(ROWS, 32) for _ in range(2 + NEGATIVES)]
    exact = loss.of_columns(columns, torch.arange(ROWS))
    with torch.autocast("cpu", torch.bfloat16):
        assert loss.of_columns(columns, torch.arange(ROWS)) == exact
        inputs = features(dense, data, [0, 1, 2])
        assert loss.embed(inputs[0][0] | {"task": "query"}).dtype == torch.float32


# ---- what a recipe may say ----


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"losses": {"distil": 1}, "symmetric": True}, "`symmetric` belongs to the contrastive loss"),
        ({"losses": {"distil": 1}, "guide": {"model": "org/guide"}}, "`guide` belongs to the contrastive loss"),
        ({"losses": {"contrastive": 1, "distil": 1}, "negatives": 0}, "they need `negatives`"),
        ({"teacher_temperature": 2.0}, "`teacher_temperature` belongs to `distil`"),
        ({"method": "late-interaction", "matryoshka": [64]}, "late interaction has one for each token"),
        ({"matryoshka": [64, 32, 64]}, "names a dimension twice"),
        ({"losses": {}}, "nothing would be learned"),
    ],
)
def test_what_does_not_fit_a_loss_is_refused(said: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Train(**said)


@pytest.mark.parametrize(
    ("said", "processes", "says"),
    [
        ({}, 1, "each query is compared with 192 passages: its own, 63 of other queries, 128 hard negatives"),
        ({"method": "late-interaction"}, 2, "128 hard negatives, from 2 processes × 32 rows"),
        ({"symmetric": True}, 1, "128 hard negatives; each query's passage with 64 queries"),
        ({"guide": {"model": "org/guide"}}, 1, "128 hard negatives; less what the guide holds for right"),
        ({"accumulation": 4}, 1, "accumulation makes a step of 4 such batches and adds no negatives"),
        (
            {"losses": {"distil": 1}},
            2,
            "each query is compared with its own passage and its own 2 hard negatives alone",
        ),
    ],
)
def test_it_is_told_what_a_query_is_compared_with(said: dict[str, Any], processes: int, says: str) -> None:
    assert compared_with(Train(**said), NEGATIVES, processes).endswith(says)


# ---- several processes ----


@pytest.mark.slow
def test_two_processes_learn_as_one_with_every_loss(tiny_model: Path, tmp_path: Path) -> None:
    """20 steps each, negatives missing, and batches that two processes cannot share evenly."""
    script = ["-m", "tests.train.crossing", str(tiny_model), str(tmp_path)]
    launch = ["-m", "accelerate.commands.launch", "--quiet", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    launch += ["--mixed_precision=no", "--dynamo_backend=no"]
    for before in ([], launch):
        done = subprocess.run(
            [sys.executable, *before, *script], env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two, other = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    assert one.pop("processes") == 1
    assert two.pop("processes") == other.pop("processes") == 2
    assert one.pop("guide") == two.pop("guide") == other.pop("guide")
    assert len(one) == 3
    assert two == other
    for name, (losses, weights) in one.items():
        np.testing.assert_allclose(two[name][0], losses, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(two[name][1], weights, rtol=1e-3, atol=1e-4, err_msg=name)
        assert np.ptp(losses) > 1e-3, name
