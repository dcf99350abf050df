"""What a guide holds for right, that it is sentence-transformers' own rule, and that a guide which knows nothing is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedGISTEmbedLoss

from medembed.errors import InputError
from medembed.recipe import Guide, Train
from medembed.train.data import LABEL, Rows
from medembed.train.guide import guided, left_out, may_answer
from medembed.train.losses import loss_of
from tests.fixtures.models import WORDS
from tests.train.test_losses import features, found

ROWS = 16


def rows(twins: int = ROWS) -> Rows:
    """Rows of a query, its passage and another one; the first `twins` queries are their passages, word by word."""
    draw = np.random.default_rng(1)
    texts = [" ".join(draw.choice(WORDS, 6)) for _ in range(3 * ROWS)]
    queries, positives, negatives = texts[:ROWS], texts[ROWS : 2 * ROWS], texts[2 * ROWS :]
    negatives[3] = positives[5]  # a text that is the right one of another row
    queries[:twins] = positives[:twins]
    numbers = np.stack([np.arange(ROWS), ROWS + np.arange(ROWS), 2 * ROWS + np.arange(ROWS)], axis=1)
    numbers[3, 2] = numbers[5, 1]
    table = {"query": queries, "positive": positives, "negative_1": negatives, LABEL: list(range(ROWS))}
    return Rows(
        Dataset.from_dict(table), numbers, np.zeros((ROWS, 1), dtype=bool), None, [], ROWS, np.arange(1, ROWS + 1), None
    )


def test_what_is_as_close_as_the_right_one_less_the_margin_may_answer() -> None:
    scores = torch.tensor([[0.8, 0.71, 0.73, 0.9], [0.3, -0.5, -0.54, -0.56]])
    right = torch.tensor([[0], [1]])
    assert may_answer(scores, right, 0.1).tolist() == [[False, False, True, True], [True, False, True, False]]
    assert may_answer(scores, right, 0.0).tolist() == [[False, False, False, True], [True, False, False, False]]


def test_each_row_finds_its_own_texts_again(tiny_model: Path, tmp_path: Path) -> None:
    data = rows()
    seen = guided(data, Guide(model={"model": str(tiny_model)}), tmp_path)
    assert len(seen.passages) == 2 * ROWS - 1  # each once
    queries, passages = seen.embeddings(torch.tensor([3, 5, 9]))
    model = SentenceTransformer(str(tiny_model), device="cpu")
    for place, row in enumerate((3, 5, 9)):
        own = [data.dataset[row][name] for name in data.columns]
        expected = model.encode(own)
        np.testing.assert_allclose(queries[place], expected[0], atol=1e-3)
        np.testing.assert_allclose(passages[place], expected[1:], atol=1e-3)


def test_a_guide_that_scores_at_random_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """The library's loss, to which it leaves nothing or little, would go on without a word."""
    with pytest.raises(InputError, match=r"holds \d+% of other rows' passages for right") as error:
        guided(rows(twins=0), Guide(model={"model": str(tiny_model)}, relative_margin=0.2), tmp_path)
    assert error.value.faults[0].where == str(tiny_model)


def test_scores_drawn_at_random_hold_half_of_the_pairs_for_right() -> None:
    scores = torch.from_numpy(np.random.default_rng(0).normal(size=(500, 500)))
    share = may_answer(scores, torch.arange(500)[:, None], 0.0).double().mean().item()
    assert share == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("relative_margin", [0.0, 0.01])
def test_guided_batches_are_those_of_gist(tiny_model: Path, tmp_path: Path, relative_margin: float) -> None:
    data, student = rows(), SentenceTransformer(str(tiny_model), device="cpu")
    data.guide = guided(data, Guide(model={"model": str(tiny_model)}, relative_margin=relative_margin), tmp_path)
    assert left_out(data.guide) < 0.25
    train = Train(guide={"model": {"model": str(tiny_model)}}, temperature=0.1)
    theirs = CachedGISTEmbedLoss(
        student,
        SentenceTransformer(str(tiny_model), device="cpu"),
        temperature=0.1,
        margin_strategy="relative",
        margin=relative_margin,
        contrast_anchors=False,
        contrast_positives=False,
    )
    inputs = features(student, data, list(range(8)))
    value, gradient = found(student, loss_of(train, student, data), inputs)
    expected, their_gradient = found(student, theirs, inputs)
    data.guide = None
    unguided, _ = found(student, loss_of(train, student, data), inputs)
    assert value == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(gradient, their_gradient, rtol=1e-2, atol=1e-5)
    assert (value < unguided - 1e-3) == (
        relative_margin > 0
    )  # row 3's negative is row 5's passage: a tie without a margin
