"""Pairs of texts → the scores of a cross-encoder, in blocks on disk: a killed run goes on from the last whole block.

Scores are logits, as losses that distil want them: a sigmoid would flatten what the model is sure of. Who compares scores with each
other or with a bound takes `probabilities` of them, where a share of a score has a meaning.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tqdm import tqdm

from medembed import tables
from medembed.errors import RunError
from medembed.retrieval import kept
from medembed.retrieval.embeddings import Floats

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

BLOCK = 1024  # pairs


def score(
    reranker: "CrossEncoder", revision: str, texts: Iterable[tuple[str, str]], cache: Path, batch_size: int
) -> Floats:
    """The logits, (N,), of N pairs of a query and a passage, in their order; memory holds one block of texts.

    `revision` identifies the weights.

    Raises:
        RunError: the model gives numbers that are none (NaN, infinity).
    """
    blocks = tqdm(tables.blocks(texts, BLOCK), desc="rerank", unit="block", disable=None)
    logits = [_scored(reranker, revision, block, cache, batch_size) for block in blocks]
    return np.concatenate([np.empty(0, np.float32), *logits])


class Grading(NamedTuple):
    """What all processes are told of pairs to score, structs of a query and a passage: a `together.Job`."""

    revision: str
    cache: Path
    batch_size: int

    @property
    def block(self) -> int:
        return BLOCK

    @property
    def what(self) -> str:
        return "pairs"

    def make(self, model: Any, texts: list[dict[str, str]]) -> None:
        """Score one block and write it, unless it stands: `score` then reads it."""
        pairs = [(each["query"], each["passage"]) for each in texts]
        _scored(model, self.revision, pairs, self.cache, self.batch_size)


def probabilities(logits: Floats) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """The sigmoid of `logits`."""
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def _scored(
    reranker: "CrossEncoder", revision: str, block: list[tuple[str, str]], cache: Path, batch_size: int
) -> Floats:
    """The logits of one block, (B,): read where they stand, else made and written."""
    from torch.nn import Identity

    path = kept.place(cache, [revision, reranker.max_length, batch_size, block], "logits")
    if (body := kept.read(path)) is not None:
        return np.frombuffer(body, np.float32)
    made = reranker.predict(block, batch_size=batch_size, activation_fn=Identity(), show_progress_bar=False)
    logits: Floats = np.asarray(made, np.float32)
    if not np.isfinite(logits).all():
        raise RunError.of("the cross-encoder gives scores that are not finite", mend="Choose another one.")
    kept.write(path, logits.tobytes())
    return logits
