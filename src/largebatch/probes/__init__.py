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
from .gradients import LossFn, gradient
from .noise_scale import NoiseScale, NoiseScaleResult
from .untouched import untouched

__all__ = [
    "GradientCosine",
    "LossFn",
    "NoiseScale",
    "NoiseScaleResult",
    "cosine_between",
    "gradient",
    "gradient_cosine",
    "untouched",
]
