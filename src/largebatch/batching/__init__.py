"""What is done to the batch before it reaches a worker, and to its losses."""

from .dropout import set_dropout
from .hard import DiscardUntil, hard_examples
from .shard import split_batch
from .sharper import sharp_cross_entropy
from .small_gradients import discard_small_gradients

__all__ = [
    "DiscardUntil",
    "discard_small_gradients",
    "hard_examples",
    "set_dropout",
    "sharp_cross_entropy",
    "split_batch",
]
