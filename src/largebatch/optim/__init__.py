"""Update rules for large batches: one engine with a scale, one short file a method.

Example:
    >>> import torch
    >>> weight = torch.nn.Parameter(torch.ones(4))
    >>> optimizer = SNGM([weight], lr=0.5, momentum=0.9)
    >>> weight.sum().backward()
    >>> optimizer.step()
    >>> weight.data  # the gradient has norm 2: each element moves by 0.5 / 2
    tensor([0.7500, 0.7500, 0.7500, 0.7500])
"""

from .base import Rule
from .bucket import Bucket
from .cblr import CBLR
from .clars import CLARS
from .engine import ScaledMomentum
from .lamb import LAMB
from .lars import LARS
from .lars2020 import LARS2020
from .mclr import MCLR
from .percentdelta import PercentDelta
from .sngm import SNGM

__all__ = [
    "CBLR",
    "CLARS",
    "LAMB",
    "LARS",
    "LARS2020",
    "MCLR",
    "SNGM",
    "Bucket",
    "PercentDelta",
    "Rule",
    "ScaledMomentum",
]
