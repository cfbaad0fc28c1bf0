"""Training with large batches without losing accuracy.

A **worker** is whatever computes one gradient g_i: one micro-batch of an accumulation loop or one
process of a data-parallel group. :class:`Workers` gives each worker its own weights, keeps each
worker's own gradient and leaves their mean in ``p.grad`` for any optimizer.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import batching, schedule, theory
from .contracts import Perturbation, Point
from .gradient_noise import AnnealedNoise
from .optim import CBLR, CLARS, LAMB, LARS, LARS2020, MCLR, SNGM, PercentDelta
from .perturb import GNC, RNC, SAM, EigenNoise, Extrapolation, MatchedNoise, Switch
from .workers import Worker, Workers

if TYPE_CHECKING:
    from . import probes as probes
    from .probes import NoiseScale

__all__ = [
    "CBLR",
    "CLARS",
    "GNC",
    "LAMB",
    "LARS",
    "LARS2020",
    "MCLR",
    "RNC",
    "SAM",
    "SNGM",
    "AnnealedNoise",
    "EigenNoise",
    "Extrapolation",
    "MatchedNoise",
    "NoiseScale",
    "PercentDelta",
    "Perturbation",
    "Point",
    "Switch",
    "Worker",
    "Workers",
    "batching",
    "schedule",
    "theory",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Probes are imported when they are first asked for: who only trains does without."""
    if name in ("NoiseScale", "probes"):
        probes = importlib.import_module(".probes", __name__)
        return probes if name == "probes" else probes.NoiseScale
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
