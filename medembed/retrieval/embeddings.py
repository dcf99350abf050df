"""Texts → embeddings on disk.

Encoded and saved block by block under the hash of what made them (model, prompt, length, texts): nothing stale can be read, and
a killed run goes on from the last whole block.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tqdm import tqdm

from medembed.errors import RunError
from medembed.run import replacing

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Floats = np.ndarray[Any, np.dtype[np.float32]]
BLOCK = 2048


def encode(
    model: "SentenceTransformer",
    revision: str,
    texts: list[str],
    side: Literal["query", "document"],
    cache: Path,
    batch_size: int,
) -> Floats:
    """Unit-length embeddings of `texts`, shape (len(texts), D); each distinct text is encoded once.

    `revision` identifies the model's weights; `side` says whether its query or its document prompt is used.

    Raises:
        RunError: the model gives numbers that are none (NaN, infinity).
    """
    distinct = sorted(set(texts))
    blocks = [distinct[start : start + BLOCK] for start in range(0, len(distinct), BLOCK)]
    rows = []
    for block in tqdm(blocks, desc=f"encode {side}", unit="block", disable=len(blocks) < 2):
        made_by = json.dumps([revision, model.max_seq_length, model.prompts, side, block])
        path = cache / f"{hashlib.sha256(made_by.encode()).hexdigest()[:32]}.npy"
        if not path.exists():
            encoder = model.encode_query if side == "query" else model.encode_document
            embeddings = encoder(block, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False)
            if not np.isfinite(embeddings).all():
                raise RunError.of(
                    "the retriever gives embeddings that are not finite", "mine.retriever", "Choose another."
                )
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, embeddings.astype(np.float32))
        rows.append(np.load(path, allow_pickle=False))
    at = {text: i for i, text in enumerate(distinct)}
    return np.concatenate(rows)[[at[text] for text in texts]]
