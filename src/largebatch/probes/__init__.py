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
from .cosine import GradientCosine, cosine_between, gradient_cosine
from .gradients import LossFn, gradient
from .noise_result import NoiseScaleResult
from .noise_scale import NoiseScale
from .path_smoothness import (
    PathSmoothness,
    PathSmoothnessResult,
    RelaxedSmoothness,
    relaxed_smoothness,
)
from .untouched import untouched
from .update_size import UpdateSize, UpdateSizeResult

__all__ = [
    "BlockNorms",
    "BlockNormsResult",
    "GradientCosine",
    "LossFn",
    "NoiseScale",
    "NoiseScaleResult",
    "PathSmoothness",
    "PathSmoothnessResult",
    "RelaxedSmoothness",
    "UpdateSize",
    "UpdateSizeResult",
    "cosine_between",
    "gradient",
    "gradient_cosine",
    "relaxed_smoothness",
    "untouched",
]
