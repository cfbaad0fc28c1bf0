"""Training with large batches without losing accuracy.

A **worker** is whatever computes one gradient g_i: one micro-batch of an accumulation loop or one
process of a data-parallel group. :class:`Workers` gives each worker its own weights, keeps each
worker's own gradient and leaves their mean in ``p.grad`` for any optimizer.
"""

from . import batching, schedule, theory
from .contracts import Perturbation, Point
from .gradient_noise import AnnealedNoise
from .optim import CBLR, CLARS, LAMB, LARS, LARS2020, MCLR, SNGM, PercentDelta
from .perturb import GNC, RNC, SAM, EigenNoise, Extrapolation, MatchedNoise, Switch
from .probes import NoiseScale
from .workers import Worker, Workers

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
