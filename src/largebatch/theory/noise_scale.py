"""Two noise scales, and what they say about the batch.

    g        = eta·(N/B - 1)                       of SGD with rate eta: Smith and Le (2018), AGN
    B_simple = tr(Sigma)/‖G‖²                      of the gradient: McCandlish et al. (2018), 2.9

N training examples, B batch size; G the mean gradient, Sigma the covariance of one example's.
Unbiased from squared norms at two batch sizes (McCandlish et al., Appendix A.1), since
E‖g_B‖² = ‖G‖² + tr(Sigma)/B:

    ‖G‖²      = (B_l·‖g_l‖² - B_s·‖g_s‖²)/(B_l - B_s)
    tr(Sigma) = (‖g_s‖² - ‖g_l‖²)/(1/B_s - 1/B_l)
"""

from __future__ import annotations

from dataclasses import dataclass

from .checks import above, at_least, within

__all__ = [
    "GradientMoments",
    "batch_at_noise_scale",
    "gradient_moments",
    "lr_at_noise_scale",
    "noise_scale",
    "simple_noise_scale",
]


def noise_scale(lr: float, dataset_size: int, batch_size: float) -> float:
    """Noise scale of SGD, g = eta·(N/B - 1); 0 for the full batch. In units of the rate.

    Raises:
        ValueError: a number out of its range, or a batch larger than the data set.

    Example:
        >>> noise_scale(1.0, 60_000, 64), noise_scale(1.0, 60_000, 30_000)  # AGN, Section 1
        (936.5, 1.0)
    """
    return above("lr", lr) * _spread(dataset_size, batch_size)


def lr_at_noise_scale(scale: float, dataset_size: int, batch_size: float) -> float:
    """The learning rate that has noise scale ``scale`` at this batch: g/(N/B - 1).

    Raises:
        ValueError: a number out of its range, or a batch that is the whole data set.

    Example:
        >>> lr_at_noise_scale(noise_scale(0.1, 60_000, 64), 60_000, 30_000)
        93.65
    """
    spread = _spread(dataset_size, batch_size)
    if not spread:
        raise ValueError(
            f"a batch of all {dataset_size} examples has no noise at any rate: take a smaller one"
        )
    return above("scale", scale) / spread


def batch_at_noise_scale(scale: float, dataset_size: int, lr: float) -> float:
    """The batch size that has noise scale ``scale`` at this rate: N/(1 + g/eta).

    With the noise scale of the best small-batch run, it is the batch that is best at a rate.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> batch_at_noise_scale(936.5, 60_000, lr=1.0)
        64.0
    """
    above("dataset_size", dataset_size)
    return dataset_size / (1 + at_least("scale", scale) / above("lr", lr))


@dataclass(frozen=True)
class GradientMoments:
    """Estimates of ‖G‖² and tr(Sigma); of one step each is noisy and may be negative.

    Average both over steps before taking the ratio, which is biased: of single steps it is useless.

    Attributes:
        squared_norm: ‖G‖².
        trace: tr(Sigma), the variance of one example's gradient, summed over coordinates.

    Example:
        >>> moments = GradientMoments(squared_norm=0.5, trace=100.0)
        >>> moments.noise_scale, moments.expected_square(batch_size=50)
        (200.0, 2.5)
    """

    squared_norm: float
    trace: float

    @property
    def noise_scale(self) -> float:
        """B_simple, in examples.

        Raises:
            ValueError: an estimate is not above zero yet.
        """
        return simple_noise_scale(self.trace, self.squared_norm)

    def expected_square(self, batch_size: float) -> float:
        """E‖g_B‖² = ‖G‖² + tr(Sigma)/B, drawn with replacement or from many more than B."""
        return self.squared_norm + self.trace / above("batch_size", batch_size)


def gradient_moments(
    small_batch: float, small_square: float, large_batch: float, large_square: float
) -> GradientMoments:
    """Unbiased estimates of ‖G‖² and tr(Sigma) from squared gradient norms at two batch sizes.

    The two may share examples: with M workers of b examples, ``small_square`` is the mean of
    ‖g_i‖² over workers and ``large_square`` is ‖g‖² at M·b.

    Args:
        small_batch: B_s, above 0.
        small_square: ‖g_s‖², or its mean over small batches.
        large_batch: B_l, above B_s.
        large_square: ‖g_l‖², or its mean.

    Raises:
        ValueError: a negative number; batch sizes that do not differ.

    Example:
        >>> truth = GradientMoments(squared_norm=0.5, trace=100.0)
        >>> gradient_moments(10, truth.expected_square(10), 1000, truth.expected_square(1000))
        GradientMoments(squared_norm=0.5, trace=100.0)
    """
    above("small_batch", small_batch)
    above("large_batch", large_batch, small_batch)
    at_least("small_square", small_square)
    at_least("large_square", large_square)
    weighted = large_batch * large_square - small_batch * small_square
    return GradientMoments(
        squared_norm=weighted / (large_batch - small_batch),
        trace=(small_square - large_square) / (1 / small_batch - 1 / large_batch),
    )


def simple_noise_scale(trace: float, squared_norm: float) -> float:
    """B_simple = tr(Sigma)/‖G‖², in examples: the batch at which noise and signal are alike.

    Raises:
        ValueError: a number that is not above 0, as estimates of few steps may not be.

    Example:
        >>> simple_noise_scale(trace=100.0, squared_norm=0.5)
        200.0
    """
    for name, value in (("tr(Sigma)", trace), ("‖G‖²", squared_norm)):
        if not value > 0:
            raise ValueError(
                f"a noise scale needs {name} above 0, got {value}: average the estimates over more "
                "steps before dividing"
            )
    return trace / squared_norm


def _spread(dataset_size: int, batch_size: float) -> float:
    above("dataset_size", dataset_size)
    above("batch_size", batch_size)
    within("batch_size", batch_size, 0, dataset_size)
    return dataset_size / batch_size - 1
