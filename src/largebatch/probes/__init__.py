"""What is measured of training, one quantity a file, and read only.

A probe is of one of three kinds:

- *of a point*: a function ``probe(model, loss_fn, batch, ...)`` that looks at the loss at the
  present weights and returns a frozen dataclass;
- *of steps*: an object that hears each worker's gradient (``workers.listen(probe)``) and whose
  ``result()`` is such a dataclass;
- *of a run*: a function of what a run recorded.

Weights, gradients, buffers, modes and random state are after it what they were before.
"""

from .alignment import Alignment, alignment
from .cosine import GradientCosine, cosine_between, gradient_cosine
from .gradients import LossFn, gradient
from .noise_covariance import NoiseCovariance, isotropic_condition, noise_covariance
from .untouched import untouched
from .worker_gradients import WorkerGradients

__all__ = [
    "Alignment",
    "GradientCosine",
    "LossFn",
    "NoiseCovariance",
    "WorkerGradients",
    "alignment",
    "cosine_between",
    "gradient",
    "gradient_cosine",
    "isotropic_condition",
    "noise_covariance",
    "untouched",
]
