"""What is measured of training, one quantity a file, and read only.

A probe is of one of three kinds:

- *of a point*: a function ``probe(model, loss_fn, batch, ...)`` that looks at the loss at the
  present weights and returns a frozen dataclass;
- *of steps*: an object that hears each worker's gradient (``workers.listen(probe)``) and whose
  ``result()`` is such a dataclass;
- *of a run*: a function of what a run recorded.

Weights, gradients, buffers, modes and random state are after it what they were before.
"""

from .block_norms import BlockNorms, BlockNormsResult
from .alignment import Alignment, alignment
from .cosine import GradientCosine, cosine_between, gradient_cosine
from .curvature_radius import CurvatureRadius, curvature_radius
from .discarded_gradient import DiscardedGradient, discarded_gradient
from .dispersion import Dispersion, dispersion
from .distance_to_minimum import DistanceToMinimum, distance_to_minimum
from .fluctuation import Fluctuation, fluctuation
from .gradient_size import GradientSize, gradient_size
from .gradients import LossFn, gradient
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

__all__ = [
    "BlockNorms",
    "BlockNormsResult",
    "CurvatureRadius",
    "DiscardedGradient",
    "Dispersion",
    "DistanceToMinimum",
    "Fluctuation",
    "GradientCosine",
    "GradientSize",
    "LineSmoothness",
    "LossFn",
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
    "relaxed_smoothness",
    "smoothness",
from .hessian import Hessian, eigenpairs, hessian
from .landscape import LossLine, LossPlane, filter_normalized, loss_line, loss_plane
from .noise_covariance import NoiseCovariance, isotropic_condition, noise_covariance
from .untouched import untouched
from .worker_gradients import WorkerGradients

__all__ = [
    "Alignment",
    "GradientCosine",
    "Hessian",
    "LossFn",
    "LossLine",
    "LossPlane",
    "NoiseCovariance",
    "WorkerGradients",
    "alignment",
    "cosine_between",
    "eigenpairs",
    "filter_normalized",
    "gradient",
    "gradient_cosine",
    "hessian",
    "isotropic_condition",
    "loss_line",
    "loss_plane",
    "noise_covariance",
    "untouched",
]
