"""What is done to the batch before it reaches a worker."""

from .course import Course, Ramp, Stages
from .dropout import set_dropout
from .follow import FollowNoise
from .hard import DiscardUntil, hard_examples
from .kinds import KINDS
from .position import Position
from .sampler import BatchSizeSampler
from .scheduler import BatchSizeSchedule
from .shard import split_batch
from .sharper import sharp_cross_entropy
from .small_gradients import discard_small_gradients

__all__ = [
    "KINDS",
    "BatchSizeSampler",
    "BatchSizeSchedule",
    "Course",
    "DiscardUntil",
    "FollowNoise",
    "Position",
    "Ramp",
    "Stages",
    "discard_small_gradients",
    "hard_examples",
    "set_dropout",
    "sharp_cross_entropy",
    "split_batch",
]
