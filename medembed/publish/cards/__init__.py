"""Cards: a manifest (and, of a dataset, its tables) in, the text of README.md out. Pure: no file but the templates is read.

A fact that is absent prints «not recorded». No text of a note or query is in a manifest, and so none is on a card.
"""

from medembed.publish.cards.dataset import Table, dataset_card
from medembed.publish.cards.model import eval_results, model_card
from medembed.publish.cards.rendering import templates

__all__ = ["Table", "dataset_card", "eval_results", "model_card", "templates"]
