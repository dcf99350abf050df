"""What a recipe asks to be minimised → a loss of sentence-transformers, over the batch of all processes."""

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
from torch import nn

from medembed.processes import processes
from medembed.recipe import Train


def loss_of(train: Train, model: SentenceTransformer) -> nn.Module:
    """The loss that `train` asks for; its inputs are the columns of `data.Rows`, in their order."""
    return CachedMultipleNegativesRankingLoss(
        model,
        scale=1 / train.temperature,
        mini_batch_size=train.mini_batch_size,
        gather_across_devices=processes().num_processes > 1,
    )
