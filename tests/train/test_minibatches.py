"""Mini-batches by length: no text is lost or misplaced, and what is learned is what plain GradCache learns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss, MatryoshkaLoss
from torch import nn

from medembed.train.minibatches import ByLength, Features, cut, kept_first
from tests.fixtures.models import WORDS


class Ours(ByLength, CachedMultipleNegativesRankingLoss):
    """The library's loss over parts."""

    def embed(self, features: Features) -> torch.Tensor:
        return self.model(features)["sentence_embedding"]

    def calculate_loss(self, reps: list[list[torch.Tensor]], labels: Any = None, *, with_backward: bool = False) -> Any:
        columns = self.in_order(reps)
        leaves = [column.detach().requires_grad_(with_backward) for column in columns]
        loss = super().calculate_loss([[leaf] for leaf in leaves], labels, with_backward=with_backward)
        if with_backward:
            torch.autograd.backward(columns, [leaf.grad for leaf in leaves])
        return loss


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 200), st.booleans())
def test_parts_hold_each_text_once_and_whole_and_no_more_tokens_than_allowed(
    lengths: list[int], tokens: int, padded_before: bool
) -> None:
    width = max(lengths)
    ids = torch.zeros(len(lengths), width, dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, width - length if padded_before else 0 :][:length] = row + 1
    features = {"input_ids": ids, "attention_mask": (ids > 0).long(), "prompt_length": 2, "modality": "text"}
    parts = cut(0, features, tokens)
    assert sorted(row for part in parts for row in part.rows.tolist()) == list(range(len(lengths)))
    for part in parts:
        assert part["prompt_length"] == 2
        assert part["input_ids"].numel() == part.tokens <= max(tokens, width)
        assert part["attention_mask"].sum(dim=1).tolist() == [lengths[row] for row in part.rows.tolist()]
        assert (part["input_ids"].amax(dim=1) - 1).tolist() == part.rows.tolist()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=200), st.integers(50, 2000))
def test_little_of_a_part_is_padding_unless_it_is_small(lengths: list[int], tokens: int) -> None:
    mask = torch.arange(50)[None] < torch.tensor(lengths)[:, None]
    for part in cut(0, {"attention_mask": mask.long()}, tokens):
        assert part["attention_mask"].sum() >= 0.8 * part.tokens or part.tokens < tokens / 8 + 50


@pytest.mark.parametrize("texts_at_once", [1, 3, 100])
def test_loss_and_gradients_are_those_of_the_library(tiny_model: Path, texts_at_once: int) -> None:
    model = SentenceTransformer(str(tiny_model), device="cpu").train()
    columns = _columns(model, rows=13)
    expected = _learned(CachedMultipleNegativesRankingLoss(model, mini_batch_size=5), columns)
    ours = Ours(model, mini_batch_size=5, mini_batch_num_tokens=texts_at_once * 64)
    _assert_equal(_learned(ours, columns), expected)
    with torch.no_grad():
        np.testing.assert_allclose(float(ours(columns, None)), expected[0], rtol=1e-5)


def test_matryoshka_learns_the_same_over_parts(tiny_model: Path) -> None:
    model = SentenceTransformer(str(tiny_model), device="cpu").train()
    columns = _columns(model, rows=9)
    theirs = MatryoshkaLoss(model, CachedMultipleNegativesRankingLoss(model, mini_batch_size=4), [32, 8])
    ours = MatryoshkaLoss(model, Ours(model, mini_batch_size=4, mini_batch_num_tokens=100), [32, 8])
    _assert_equal(_learned(ours, columns), _learned(theirs, columns))


def test_what_fits_at_once_goes_through_the_model_once(tiny_model: Path) -> None:
    model = SentenceTransformer(str(tiny_model), device="cpu").train()
    columns = _columns(model, rows=8)
    passes = {}
    for tokens in (100, 100_000):
        seen = 0

        def count(_: nn.Module, given: tuple[dict[str, torch.Tensor]]) -> None:
            nonlocal seen
            seen += len(given[0]["input_ids"])

        hook = model[0].register_forward_pre_hook(count)
        Ours(model, mini_batch_size=4, mini_batch_num_tokens=tokens)(columns, None).backward()
        hook.remove()
        passes[tokens] = seen / sum(len(column["input_ids"]) for column in columns)
    assert passes[100_000] == 1
    assert 1 < passes[100] < 2


def test_ddp_replays_its_last_part_and_fsdp_all() -> None:
    parts = cut(0, {"attention_mask": torch.ones(6, 10, dtype=torch.long)}, 20)
    assert [part.is_kept for part in kept_first(parts, 1000, nn.Linear(1, 1))] == [True] * 3
    fsdp = type(
        "Sharded", (torch.distributed.fsdp.FSDPModule,), {"__init__": lambda self: None, "__new__": object.__new__}
    )
    parts = cut(0, {"attention_mask": torch.ones(6, 10, dtype=torch.long)}, 20)
    assert [part.is_kept for part in kept_first(parts, 1000, fsdp())] == [False] * 3


def test_parts_of_so_many_texts_are_as_many_whatever_their_lengths() -> None:
    for lengths in ([9, 1, 1, 1, 5], [2, 2, 2, 2, 2]):
        mask = (torch.arange(9)[None] < torch.tensor(lengths)[:, None]).long()
        assert [len(part.rows) for part in cut(0, {"attention_mask": mask}, 100, texts=2)] == [2, 2, 1]


def test_a_text_without_any_token_is_no_trouble() -> None:
    assert [part.tokens for part in cut(0, {"attention_mask": torch.zeros(3, 4, dtype=torch.long)}, 100)] == [3]


def test_dropout_draws_the_same_masks_in_both_passes(tmp_path: Path) -> None:
    from tests.fixtures.models import make_tiny_model

    model = SentenceTransformer(str(make_tiny_model(tmp_path, dropout=0.3)), device="cpu").train()
    columns = _columns(model, rows=8)
    seen = []
    model[0].register_forward_hook(lambda *given: seen.append(given[2]["token_embeddings"].detach().clone()))
    Ours(model, mini_batch_size=4, mini_batch_num_tokens=64)(columns, None).backward()
    again = [
        one for n, one in enumerate(seen) for other in seen[:n] if one.shape == other.shape and torch.equal(one, other)
    ]
    assert len(again) >= len(seen) // 2 - 1  # all but what is kept


def _columns(model: SentenceTransformer, rows: int) -> list[dict[str, torch.Tensor]]:
    """Query, positive and a negative of uneven lengths."""
    draw = np.random.default_rng(0)
    return [
        model.preprocess([" ".join(draw.choice(WORDS, draw.integers(2, most))) for _ in range(rows)])
        for most in (9, 60, 60)
    ]


def _learned(loss: nn.Module, columns: list[dict[str, torch.Tensor]]) -> tuple[float, dict[str, np.ndarray]]:
    model = loss.model
    model.zero_grad()
    value = loss([dict(column) for column in columns], None)
    (3 * value).backward()  # as a scaler of gradients does
    return value.item(), {name: p.grad.numpy().copy() for name, p in model.named_parameters() if p.grad is not None}


def _assert_equal(ours: tuple[float, dict[str, np.ndarray]], theirs: tuple[float, dict[str, np.ndarray]]) -> None:
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in ours[1].items():
        np.testing.assert_allclose(gradient, theirs[1][name], rtol=1e-4, atol=1e-4, err_msg=name)
