"""The guide: a second model that looks at the pairs of a batch, so that a passage that may be right is no negative (GISTEmbed).

It embeds every text of the training rows once, before the first step, into blocks on disk; a batch looks its own ones up. What the
guide scores close to a row's own pair is left out of the contrastive loss.
"""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from medembed import models
from medembed.errors import InputError
from medembed.processes import processes
from medembed.recipe import Guide
from medembed.retrieval import together
from medembed.retrieval.embeddings import Embeddings, encode
from medembed.train.batches import Ids
from medembed.train.data import Rows

log = logging.getLogger(__name__)

BATCH_SIZE = 64  # texts that go through the guide at once
PROBED = 512  # rows whose pairs are looked at before training
LEFT_OUT = 0.25  # of these at most: a guide that scores at random leaves out half


@dataclass(frozen=True)
class Guided:
    """A guide's embeddings of the training rows, unit vectors in fp16."""

    queries: Embeddings  # (rows, G)
    passages: Embeddings  # (distinct passages, G)
    at: Ids  # (rows, 1 + negatives): which passage
    relative_margin: float

    def embeddings(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, G) and passages (B, 1 + n, G) of the rows with these `numbers` (B,), in fp32 beside them."""
        rows = numbers.cpu().numpy()
        found = self.queries[rows], self.passages[self.at[rows]]
        queries, passages = (torch.from_numpy(each.astype(np.float32)).to(numbers.device) for each in found)
        return queries, passages


def may_answer(scores: Tensor, right: Tensor, relative_margin: float) -> Tensor:
    """Which pairs are as close as the right one of their row, less the margin: (r, candidates), the right ones aside.

    `scores` are the guide's, (r, candidates), `right` the places of the right ones, (r, 1).
    """
    theirs = scores.gather(1, right)
    return (scores > theirs - relative_margin * theirs.abs()).scatter(1, right, False)


def guided(rows: Rows, guide: Guide, cache: Path) -> Guided:
    """The texts of `rows` as the guide sees them. Called in every process: each embeds a part of the blocks, and reads all.

    Raises:
        InputError: the guide is no dense embedding model, or leaves out so much that it seems to score at random.
    """
    model = models.load(guide.model)
    if not isinstance(model, SentenceTransformer):
        raise InputError.of("has no embedding of a whole text: it cannot be a guide", guide.model.model)
    passages, at = _distinct_passages(rows)

    def encoded() -> tuple[Embeddings, Embeddings]:
        by_guide = partial(encode, model, models.resolve(guide.model).revision, cache=cache, batch_size=BATCH_SIZE)
        return by_guide(rows.dataset.data.column("query"), "query"), by_guide(passages, "document")

    if processes().is_main_process:
        with together.leading():
            found = encoded()
    else:
        together.follow(lambda job: model)
        found = encoded()
    of_guide = Guided(*found, at, guide.relative_margin)
    if (share := left_out(of_guide)) > LEFT_OUT:
        what = f"holds {share:.0%} of other rows' passages for right, as one that scores at random would: little is left to learn from"
        mend = "Choose a model that knows such texts, or a smaller `train.guide.relative_margin`."
        raise InputError.of(what, guide.model.model, mend)
    log.info("guide      %s leaves out %.2f %% of other rows' passages", guide.model.model, 100 * share)
    return of_guide


def left_out(guided: Guided) -> float:
    """The share of other rows' passages that the guide holds for right, over some rows drawn at random."""
    drawn = np.random.default_rng(0).permutation(len(guided.at))[:PROBED]
    queries, passages = guided.embeddings(torch.from_numpy(drawn))
    pairs = may_answer(queries @ passages[:, 0].T, torch.arange(len(drawn))[:, None], guided.relative_margin)
    return float(pairs.sum()) / max(1, len(drawn) * (len(drawn) - 1))


def _distinct_passages(rows: Rows) -> tuple[pa.ChunkedArray, Ids]:
    """The passages of all rows, each once, and which of them a row's are: (rows, 1 + negatives)."""
    columns = [rows.dataset.data.column(name).cast(pa.large_string()) for name in rows.columns[1:]]
    texts = pa.chunked_array([chunk for column in columns for chunk in column.chunks])
    _, first, at = np.unique(rows.texts[:, 1:].T, return_index=True, return_inverse=True)
    return texts.take(first), at.reshape(len(columns), -1).T
