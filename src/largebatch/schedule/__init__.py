"""Learning rates: their course over steps, and how they scale with the batch.

Example:
    >>> import torch
    >>> weight = torch.nn.Parameter(torch.ones(1))
    >>> optimizer = torch.optim.SGD([weight], lr=scaled("linear", 8192, 32, 0.025).lr)
    >>> course = WarmUp(steps=60, start=1 / 256, then=MultiStep(milestones=(480, 720)))
    >>> scheduler = lr_scheduler(optimizer, course)  # scheduler.step() after each optimizer.step()
    >>> round(scheduler.get_last_lr()[0], 6), course(60), course(480)
    (0.025, 1.0, 0.1)
"""

from .base import Schedule
from .decay import Constant, Cosine, Linear, MultiStep, Polynomial
from .scaling import RULES, Scaled, scaled
from .scheduler import lr_scheduler
from .wrap import FinalCollapse, WarmUp

__all__ = [
    "RULES",
    "Constant",
    "Cosine",
    "FinalCollapse",
    "Linear",
    "MultiStep",
    "Polynomial",
    "Scaled",
    "Schedule",
    "WarmUp",
    "lr_scheduler",
    "scaled",
]
