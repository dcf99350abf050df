"""What a recipe asks to be minimised → a loss of sentence-transformers, over the batch of all processes."""

from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
from torch import Tensor, nn

from medembed.processes import processes
from medembed.recipe import Train
from medembed.train.minibatches import ByLength


def loss_of(train: Train, model: SentenceTransformer) -> nn.Module:
    """The loss that `train` asks for; its inputs are the columns of `data.Rows`, in their order."""
    return _Contrastive(
        model,
        scale=1 / train.temperature,
        mini_batch_size=train.mini_batch_size,
        mini_batch_num_tokens=train.mini_batch_size * model.max_seq_length,
        gather_across_devices=processes().num_processes > 1,
    )


class _Contrastive(ByLength, CachedMultipleNegativesRankingLoss):  # type: ignore[misc]
    """Multiple negatives ranking over texts in parts of about one length."""

    def embed(self, features: dict[str, Any]) -> Tensor:
        embeddings: Tensor = self.model(features)["sentence_embedding"]
        return embeddings

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        columns = self.in_order(reps)
        leaves = [column.detach().requires_grad_(with_backward) for column in columns]
        loss: Tensor = super().calculate_loss([[leaf] for leaf in leaves], labels, with_backward=with_backward)
        if with_backward:
            torch.autograd.backward(columns, [leaf.grad for leaf in leaves])
        return loss
