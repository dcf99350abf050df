"""Which texts go through the model at once: the columns of a batch in; parts of about one length out, embedded as GradCache does.

The loss gets the embeddings of the whole batch in the order of its rows. So cutting changes nothing of what is learned: it saves the
padding and, for as many texts as fit into memory at once, the second pass. (GradCache: Gao et al. 2021, arXiv:2101.06983.)
"""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import nullcontext
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from sentence_transformers.base.losses.gradcache import CachedLossMixin, RandContext
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

Features = dict[str, Any]

ALIKE = 0.8  # a part ends before a text of less than this share of its longest one's length …
SMALL = 1 / 8  # … unless it is still less than this share of what may go through the model at once


class Part(dict[str, Any]):
    """What the model is given of some texts of a column."""

    def __init__(self, features: Features, column: int, rows: Tensor, tokens: int) -> None:
        """`rows`: which texts of the column. `tokens`: padding included."""
        super().__init__(features)
        self.column, self.rows, self.tokens = column, rows, tokens
        self.is_kept = False
        self.embeddings: Tensor | None = None  # with their graph, from the first pass to the second


class ByLength(CachedLossMixin):  # type: ignore[misc]
    """GradCache over parts of about one length, for a loss that says how it embeds.

    Its `forward` calls `forward_cached`; its `calculate_loss` begins with `columns = in_order(reps)`. `mini_batch_num_tokens` is how
    many tokens may go through the model at once, padding included.
    """

    def embed(self, features: Features) -> Tensor:
        """(texts, D), or (texts, tokens, D) where a zero vector stands for a token that does not count."""
        raise NotImplementedError

    def forward_cached(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        tokens = self.mini_batch_num_tokens
        texts = self.mini_batch_size if isinstance(self._model, FSDPModule) else None
        columns = [cut(column, features, tokens, texts) for column, features in enumerate(sentence_features)]
        self._parts = kept_first(list(chain(*columns)), tokens, self._model)
        return super().forward_cached(self._parts, labels)

    def embed_minibatch(
        self,
        sentence_feature: Part,
        begin: int,
        end: int,
        with_grad: bool,
        copy_random_state: bool,
        random_state: RandContext | None = None,
    ) -> tuple[Tensor, RandContext | None]:
        """Embed a part: one that is kept once for both passes, any other once in each, with the same dropout."""
        part = sentence_feature
        if part.embeddings is not None:
            embeddings, part.embeddings = part.embeddings, None
            return embeddings, None
        if part.is_kept and torch.is_grad_enabled():
            with self._model.no_sync() if isinstance(self._model, DistributedDataParallel) else nullcontext():
                part.embeddings = self.embed(dict(part))
            return part.embeddings, None
        features = dict(part)
        with random_state or nullcontext(), torch.set_grad_enabled(with_grad):
            state = RandContext(*features.values()) if copy_random_state else None
            return self.embed(features), state

    def in_order(self, reps: list[list[Tensor]]) -> list[Tensor]:
        """The embeddings of each column in the order of its rows, (rows, D) or (rows, tokens, D), from those of the parts."""
        rows: defaultdict[int, list[Tensor]] = defaultdict(list)
        embeddings: defaultdict[int, list[Tensor]] = defaultdict(list)
        for part, tensors in zip(self._parts, reps, strict=True):
            rows[part.column].append(part.rows)
            embeddings[part.column] += tensors
        return [torch.cat(as_wide(embeddings[column]))[torch.cat(rows[column]).argsort()] for column in sorted(rows)]

    @property
    def _model(self) -> Any:
        return getattr(self.model, "_orig_mod", self.model)  # as it was before torch.compile


def cut(column: int, features: Features, tokens: int, texts: int | None = None) -> list[Part]:
    """The texts of a column by length, the longest first, in parts of no more than `tokens` (but of one text at least).

    Under FSDP in parts of `texts`: its processes exchange weights in each forward pass, so that all must have as many. The lengths
    are read once, here: a GPU that was asked again for each part would stand idle meanwhile.
    """
    mask = features["attention_mask"]
    if (expanded := features.get("query_expansion_positions")) is not None:  # ColBERT's: not attended to, but scored
        mask = mask | expanded
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    ends = (mask * places).amax(dim=1).clamp(min=1)  # (rows,): of the last token, for padding may come first
    order = ends.argsort(descending=True, stable=True)
    lengths = ends[order].tolist()
    parts, begin = [], 0
    while begin < len(lengths):
        width = lengths[begin]
        end = min(begin + texts, len(lengths)) if texts else begin + _alike(lengths[begin:], tokens)
        rows = order[begin:end]
        parts.append(Part(_rows(features, rows, width, mask.shape), column, rows, (end - begin) * width))
        begin = end
    return parts


def _alike(lengths: list[int], tokens: int) -> int:
    """How many of the texts, the longest first, make up the next part."""
    most = max(1, tokens // lengths[0])
    few = SMALL * tokens / lengths[0]
    return next(
        (n for n, length in enumerate(lengths[:most]) if length < ALIKE * lengths[0] and n >= few),
        min(most, len(lengths)),
    )


def kept_first(parts: list[Part], tokens: int, model: Any) -> list[Part]:
    """The parts, the largest first, and before them all those whose graphs are kept for the second pass: `tokens` of them at most.

    DDP exchanges gradients in the backward pass of the last part, whose forward pass it must have seen just before; FSDP in all.
    """
    parts = sorted(parts, key=lambda part: part.tokens, reverse=True)
    may_wait = parts[:-1] if isinstance(model, DistributedDataParallel) else parts
    if isinstance(model, FSDPModule):
        may_wait = []
    for part in may_wait:
        if part.tokens <= tokens:
            part.is_kept = True
            tokens -= part.tokens
    return sorted(parts, key=lambda part: not part.is_kept)


def _rows(features: Features, rows: Tensor, width: int, padded: torch.Size) -> Features:
    """The features of some rows, without the padding behind the first `width` tokens."""

    def taken(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.ndim == 0:
            return value
        return value[rows, :width] if value.shape[:2] == padded else value[rows]

    return {name: taken(value) for name, value in features.items()}


def as_wide(embeddings: list[Tensor]) -> list[Tensor]:
    """Token embeddings (texts, tokens, D) with as many tokens each, by zero vectors; embeddings of texts (texts, D) as they are."""
    if embeddings[0].ndim == 2:
        return embeddings
    tokens = max(each.shape[1] for each in embeddings)
    return [F.pad(each, (0, 0, 0, tokens - each.shape[1])) for each in embeddings]
