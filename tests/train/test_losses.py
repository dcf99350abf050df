"""What is minimised, against the formulas written out once more, pair by pair, in plain torch without mini-batches; and the library's."""

import copy
import math
import random
from collections.abc import Iterator
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
    CachedGISTEmbedLoss,
    CachedMultipleNegativesRankingLoss,
    DistillKLDivLoss,
    MarginMSELoss,
    MatryoshkaLoss,
)
from torch import Tensor

from medembed.errors import InputError
from medembed.recipe import Train
from medembed.train.data import LABEL, Rows
from medembed.train.guide import Guided
from medembed.train.losses import compared_with, loss_of
from tests.fixtures.models import WORDS

ROWS, NEGATIVES = 7, 2
LACKS = {(1, 1), (4, 1)}  # rows 1 and 4 have no second negative
TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 2.0

Encoder = SentenceTransformer | MultiVectorEncoder


def rows(*, whole: bool = False) -> Rows:
    """Seven rows with texts of uneven lengths, a teacher's logits, and a guide's embeddings; two rows lack a negative unless `whole`."""
    draw, numbers = random.Random(3), np.random.default_rng(3)
    names = ["query", "positive", "negative_1", "negative_2"]
    table = {name: [" ".join(draw.choices(WORDS, k=draw.randint(1, 9))) for _ in range(ROWS)] for name in names}
    missing = np.zeros((ROWS, NEGATIVES), dtype=bool)
    teacher = numbers.normal(scale=3, size=(ROWS, 1 + NEGATIVES)).astype(np.float32)
    for row, negative in () if whole else LACKS:
        table[f"negative_{negative + 1}"][row] = ""
        missing[row, negative], teacher[row, 1 + negative] = True, np.nan
    texts = np.arange(ROWS * 4).reshape(ROWS, 4)
    return Rows(Dataset.from_dict(table | {LABEL: list(range(ROWS))}), texts, missing, teacher, [], ROWS)


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
    embedded = [list(_embedded(model, each, late, n)) for n, each in enumerate(columns)]
    return sum(_at(train, rows, labels.tolist(), embedded, dim) for dim in dims) / len(dims)


def _embedded(model: Encoder, column: dict[str, Any], late: bool, at: int) -> Iterator[Tensor]:
    out = model(column, task="document" if at else "query")
    if not late:
        return iter(out["sentence_embedding"])
    pairs = zip(out["token_embeddings"], out["attention_mask"], strict=True)
    return iter([tokens[mask.bool()] for tokens, mask in pairs])


def _at(train: Train, rows: Rows, batch: list[int], embedded: list[list[Tensor]], dim: int | None) -> Tensor:
    def logit(query: int, column: int, row: int) -> Tensor:
        a, b = embedded[0][query][..., :dim], embedded[column][row][..., :dim]
        if a.dim() == 1:
            return F.cosine_similarity(a, b, dim=0) / train.temperature
        return F.cosine_similarity(a[:, None], b[None], dim=-1).amax(1).mean() / train.temperature

    size, total = len(batch), torch.zeros(())
    there = [
        (c, r) for c in range(1, len(embedded)) for r in range(size) if c == 1 or not rows.missing[batch[r], c - 2]
    ]
    for i in range(size):
        if train.losses.contrastive:
            others = [(c, r) for c, r in there if (c, r) == (1, i) or not _right(rows, batch, i, c, r, i)]
            forward = _log_sum_exp([logit(i, c, r) for c, r in others]) - logit(i, 1, i)
            if train.symmetric:
                others = [(1, q) for q in range(size) if q == i or not _right(rows, batch, q, 1, i, i)]
                back = _log_sum_exp([logit(q, 1, i) for _, q in others]) - logit(i, 1, i)
                forward = (forward + back) / 2
            total = total + train.losses.contrastive * forward
        own = [c for c, r in there if r == i]
        student = torch.stack([logit(i, c, i) for c in own])
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
    return sum(each.exp() for each in logits).log()


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
    inputs = features(model, data, [5, 4, 0, 1, 3, 6, 2])
    value, gradient = found(model, loss_of(train, model, data), inputs)
    expected, by_formula = found(model, partial(by_hand, model, train, data), inputs)
    assert value == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gradient, by_formula, rtol=1e-3, atol=1e-6 * by_formula.abs().max().item() + 1e-7)
    assert gradient.abs().max() > 1e-4
