"""Bounds and noise scales evaluated from measured numbers: plain functions of floats.

- how far a run can get: :func:`msgd`, :func:`sngm`, :func:`sngm_relaxed`, :func:`sngm_blockwise`
- which batch: ``largest_batch`` and ``optimal`` of those bounds, :func:`batch_at_noise_scale`,
  :func:`simple_noise_scale`, :func:`critical_batch_size`
- what large batches make small: :func:`mean_gradient_magnitude` and its kin

Where a formula has a condition it is checked, and a ValueError names it.

Example:
    >>> problem = Problem(gap=2.3, smoothness=50.0, deviation=20.0)
    >>> C = 160 * 50_000  # gradient computations: 160 epochs of 50,000 examples
    >>> round(msgd(problem, momentum=0.0).largest_batch(C)), round(sngm_setting(C).batch_size)
    (4, 2828)
"""

from .blocks import block_cosine, block_ratio
from .critical_batch import (
    critical_batch_size,
    examples_to_target,
    lr_at_batch_size,
    steps_to_target,
)
from .gradient_size import (
    distance_to_minimum,
    loss_stride,
    mean_distance_to_minimum,
    mean_gradient_magnitude,
    mean_gradient_square,
    mean_update_magnitude,
)
from .msgd import SquaredNormBound, msgd
from .noise_scale import (
    GradientMoments,
    batch_at_noise_scale,
    gradient_moments,
    lr_at_noise_scale,
    noise_scale,
    simple_noise_scale,
)
from .norm_bound import NormBound
from .problem import Problem, Setting, momentum_factor
from .sngm import (
    gradient_norm_bound,
    momentum_norm_bound,
    sngm,
    sngm_blockwise,
    sngm_relaxed,
    sngm_setting,
)

__all__ = [
    "GradientMoments",
    "NormBound",
    "Problem",
    "Setting",
    "SquaredNormBound",
    "batch_at_noise_scale",
    "block_cosine",
    "block_ratio",
    "critical_batch_size",
    "distance_to_minimum",
    "examples_to_target",
    "gradient_moments",
    "gradient_norm_bound",
    "loss_stride",
    "lr_at_batch_size",
    "lr_at_noise_scale",
    "mean_distance_to_minimum",
    "mean_gradient_magnitude",
    "mean_gradient_square",
    "mean_update_magnitude",
    "momentum_factor",
    "momentum_norm_bound",
    "msgd",
    "noise_scale",
    "simple_noise_scale",
    "sngm",
    "sngm_blockwise",
    "sngm_relaxed",
    "sngm_setting",
    "steps_to_target",
]
