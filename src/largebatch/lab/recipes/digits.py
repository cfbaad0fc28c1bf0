"""Ours: seconds on a CPU, nothing to download."""

from ..config import RunConfig, ScheduleConfig
from .recipe import Recipe

_warm = ScheduleConfig(kind="cosine", warmup_epochs=2.0)

RECIPES = (
    Recipe(
        "digits",
        "digits at a batch of 64, momentum SGD (ours)",
        RunConfig(task="digits", lr=0.28, schedule=_warm),
    ),
    Recipe(
        "digits-sngm-1024",
        "digits at a batch of 1,024, SNGM (ours)",
        RunConfig(task="digits", method="sngm", batch_size=1024, lr=1.0, schedule=_warm),
    ),
)
