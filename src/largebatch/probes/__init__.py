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
from .block_norms import BlockNorms, BlockNormsResult
from .cosine import GradientCosine, cosine_between, gradient_cosine
from .curvature_radius import CurvatureRadius, curvature_radius
from .discarded_gradient import DiscardedGradient, discarded_gradient
from .dispersion import Dispersion, dispersion
from .distance_to_minimum import DistanceToMinimum, distance_to_minimum
from .fluctuation import Fluctuation, fluctuation
from .gradient_size import GradientSize, gradient_size
from .gradients import LossFn, gradient
from .hessian import Hessian, eigenpairs, hessian
from .landscape import LossLine, LossPlane, filter_normalized, loss_line, loss_plane
from .noise_covariance import NoiseCovariance, isotropic_condition, noise_covariance
from .noise_result import NoiseScaleResult
from .noise_scale import NoiseScale
from .oscillation import Oscillation, oscillation
from .path_smoothness import (
    PathSmoothness,
    PathSmoothnessResult,
    RelaxedSmoothness,
    relaxed_smoothness,
)
from .perturbed_loss import PerturbedLoss, perturbed_loss
from .places import Place
from .smoothness import LineSmoothness, Smoothness, smoothness
from .untouched import untouched
from .update_size import UpdateSize, UpdateSizeResult
from .worker_gradients import WorkerGradients

__all__ = [
    "Alignment",
    "BlockNorms",
    "BlockNormsResult",
    "CurvatureRadius",
    "DiscardedGradient",
    "Dispersion",
    "DistanceToMinimum",
    "Fluctuation",
    "GradientCosine",
    "GradientSize",
    "Hessian",
    "LineSmoothness",
    "LossFn",
    "LossLine",
    "LossPlane",
    "NoiseCovariance",
    "NoiseScale",
    "NoiseScaleResult",
    "Oscillation",
    "PathSmoothness",
    "PathSmoothnessResult",
    "PerturbedLoss",
    "Place",
    "RelaxedSmoothness",
    "Smoothness",
    "UpdateSize",
    "UpdateSizeResult",
    "WorkerGradients",
    "alignment",
    "cosine_between",
    "curvature_radius",
    "discarded_gradient",
    "dispersion",
    "distance_to_minimum",
    "eigenpairs",
    "filter_normalized",
    "fluctuation",
    "gradient",
    "gradient_cosine",
    "gradient_size",
    "hessian",
    "isotropic_condition",
    "loss_line",
    "loss_plane",
    "noise_covariance",
    "oscillation",
    "perturbed_loss",
    "relaxed_smoothness",
    "smoothness",
    "untouched",
]
