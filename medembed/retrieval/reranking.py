"""Pairs of texts → the scores of a cross-encoder, on disk.

Each distinct pair is scored once, the longest first, in blocks that are saved under the hash of what made them (model, length, texts): a
killed run goes on from the last whole block. What is kept are logits, as losses that distil want them: a sigmoid would flatten what the
teacher is sure of. Margins between scores are taken on the sigmoid, where a share of a score has a meaning.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from medembed.errors import RunError
from medembed.retrieval.embeddings import Floats, Integers
from medembed.run import replacing

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

BLOCK = 4096  # pairs


def score(
    teacher: "CrossEncoder",
    revision: str,
    queries: Sequence[str],
    passages: Sequence[str],
    asked: Integers,
    cache: Path,
    batch_size: int,
) -> Floats:
    """The teacher's logits, (N,), for the pairs `asked` (N, 2) of rows of `queries` and of `passages`.

    `revision` identifies the teacher's weights. Equal queries have to be one row, if they are to be scored once.

    Raises:
        RunError: the teacher gives numbers that are none (NaN, infinity).
    """
    distinct, back = np.unique(asked, axis=0, return_inverse=True)
    lengths = np.array([len(queries[q]) + len(passages[p]) for q, p in distinct.tolist()], dtype=np.int64)
    longest_first = np.argsort(-lengths, kind="stable")
    logits = np.empty(len(distinct), np.float32)
    starts = range(0, len(distinct), BLOCK)
    for start in tqdm(starts, desc="teacher", unit="block", disable=len(starts) < 2):
        block = longest_first[start : start + BLOCK]
        texts = [(queries[q], passages[p]) for q, p in distinct[block].tolist()]
        logits[block] = _block(teacher, revision, texts, cache, batch_size)
    return logits[back.reshape(-1)]


def too_close(
    negatives: Floats, positives: Floats, relative_margin: float | None
) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool]]":
    """Which negatives' logits (Q, M) are, as probabilities, at or above that share of their positives' (Q,)."""
    if relative_margin is None:
        return np.zeros(negatives.shape, dtype=bool)
    return _sigmoid(negatives) >= relative_margin * _sigmoid(positives)[:, None]


def _block(
    teacher: "CrossEncoder", revision: str, texts: list[tuple[str, str]], cache: Path, batch_size: int
) -> Floats:
    import torch

    made_by = json.dumps([revision, teacher.max_length, texts])
    path = cache / f"{hashlib.sha256(made_by.encode()).hexdigest()[:32]}.npy"
    if not path.exists():
        logits = teacher.predict(
            texts, batch_size=batch_size, activation_fn=torch.nn.Identity(), show_progress_bar=False
        )
        if not np.isfinite(logits).all():
            raise RunError.of("the teacher gives scores that are not finite", "mine.teacher.model", "Choose another.")
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, np.asarray(logits, np.float32))
    scores: Floats = np.load(path, allow_pickle=False)
    return scores


def _sigmoid(logits: Floats) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    return 1 / (1 + np.exp(-logits.astype(np.float64)))
