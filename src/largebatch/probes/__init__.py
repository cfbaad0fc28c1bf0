"""What is measured of training, one quantity a file, and read only.

A probe is of one of three kinds:

- *of a point*: a function ``probe(model, loss_fn, batch, ...)`` that looks at the loss at the
  present weights and returns a frozen dataclass;
- *of steps*: an object that hears each worker's gradient (``workers.listen(probe)``) and whose
  ``result()`` is such a dataclass;
- *of a run*: a function of what a run recorded.

Weights, gradients, buffers, modes and random state are after it what they were before.
"""

from .cosine import GradientCosine, cosine_between, gradient_cosine
from .curvature_radius import CurvatureRadius, curvature_radius
from .discarded_gradient import DiscardedGradient, discarded_gradient
from .dispersion import Dispersion, dispersion
from .distance_to_minimum import DistanceToMinimum, distance_to_minimum
from .fluctuation import Fluctuation, fluctuation
from .gradient_size import GradientSize, gradient_size
from .gradients import LossFn, gradient
from .oscillation import Oscillation, oscillation
from .perturbed_loss import PerturbedLoss, perturbed_loss
from .places import Place
from .smoothness import LineSmoothness, Smoothness, smoothness
from .untouched import untouched

__all__ = [
    "CurvatureRadius",
    "DiscardedGradient",
    "Dispersion",
    "DistanceToMinimum",
    "Fluctuation",
    "GradientCosine",
    "GradientSize",
    "LineSmoothness",
    "LossFn",
    "Oscillation",
    "PerturbedLoss",
    "Place",
    "Smoothness",
    "cosine_between",
    "curvature_radius",
    "discarded_gradient",
    "dispersion",
    "distance_to_minimum",
    "fluctuation",
    "gradient",
    "gradient_cosine",
    "gradient_size",
    "oscillation",
    "perturbed_loss",
    "smoothness",
    "untouched",
]
