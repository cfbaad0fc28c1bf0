"""How small gradients, updates and distances get as the batch grows, if noise is all there is.

    g ~ N(0, sigma²/n)              mean gradient of n examples, one coordinate        [1, 2]
    E|g|       = sigma·√(2/(pi·n))                                                     [4]
    E|Delta w| = eta·E|g|                                                              [6]
    Delta L    = eta·g²,            E = eta·sigma²/n                                   [8]
    d = g/h,   E|d| = E|g|/h        distance to the minimum of a parabola              [26, 28]

sigma is one example's deviation in one coordinate (of a layer), h = 2a the second derivative of the
loss along that coordinate. Gao and Zhong (CURV), numbers in [] theirs; their [4], [6] and [28] are
too large by √2, and corrected here. Units: g of loss per weight, d and Delta w of a weight.

And where the data's gradient m is not zero, and batches are drawn from N examples without
replacement (a batch of all is m, without any noise):

    g ~ N(m, s²),   s² = sigma²·(1/n - 1/N)
    E|g| = s·√(2/pi)·exp(-m²/(2s²)) + ||m||·erf(||m||/(s·√2)),   E g² = m² + s²
"""

from __future__ import annotations

from math import erf, exp, inf, pi, sqrt

from .checks import above, at_least

__all__ = [
    "distance_to_minimum",
    "loss_stride",
    "mean_distance_to_minimum",
    "mean_gradient_magnitude",
    "mean_gradient_square",
    "mean_update_magnitude",
]


def mean_gradient_magnitude(
    deviation: float, batch_size: float = 1.0, *, mean: float = 0.0, examples: float = inf
) -> float:
    """E|g|, the mean size of a coordinate of the gradient [4], corrected: of noise and a mean.

    Args:
        deviation: sigma, 0 or more.
        batch_size: n, above 0.
        mean: m, the coordinate of the data's gradient; CURV has 0.
        examples: N, of which a batch is drawn without replacement; CURV has infinitely many.

    Raises:
        ValueError: a number out of its range, a batch of more than all examples.

    Example:
        >>> round(mean_gradient_magnitude(1.0), 4), round(mean_gradient_magnitude(1.0, 100), 4)
        (0.7979, 0.0798)
        >>> real = [mean_gradient_magnitude(1.0, n, mean=0.1, examples=1e4) for n in (1, 100, 1e4)]
        >>> [round(each, 4) for each in real]
        [0.8018, 0.1164, 0.1]
    """
    s, size = sqrt(_variance(deviation, batch_size, examples)), abs(mean)
    if s == 0:
        return size
    return s * sqrt(2 / pi) * exp(-((size / s) ** 2) / 2) + size * erf(size / (s * sqrt(2)))


def mean_gradient_square(
    deviation: float, batch_size: float = 1.0, *, mean_square: float = 0.0, examples: float = inf
) -> float:
    """E g² = m² + s²; times eta it is what [8] says a step takes off the loss.

    Exact, whatever the distribution, and also as a mean over many coordinates.

    Args:
        deviation: sigma, 0 or more; over coordinates the root of the mean square.
        batch_size: n, above 0.
        mean_square: m², of the data's gradient.
        examples: N.

    Raises:
        ValueError: a number out of its range, a batch of more than all examples.

    Example:
        >>> [mean_gradient_square(2.0, n, mean_square=1.0, examples=64) for n in (1, 16, 64)]
        [4.9375, 1.1875, 1.0]
    """
    return at_least("mean_square", mean_square) + _variance(deviation, batch_size, examples)


def _variance(deviation: float, batch_size: float, examples: float) -> float:
    n = above("batch_size", batch_size)
    if not examples >= n:
        raise ValueError(
            f"a batch is drawn from all examples, got batch_size={batch_size} and "
            f"examples={examples}: give at least as many examples"
        )
    return at_least("deviation", deviation) ** 2 * (1 / n - 1 / examples)


def mean_update_magnitude(
    lr: float, deviation: float, batch_size: float, *, mean: float = 0.0, examples: float = inf
) -> float:
    """E|Delta w| = eta·E|g|, the mean step of a coordinate under plain SGD [6], corrected.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> round(mean_update_magnitude(0.1, 1.0, 100), 5)
        0.00798
    """
    magnitude = mean_gradient_magnitude(deviation, batch_size, mean=mean, examples=examples)
    return at_least("lr", lr) * magnitude


def loss_stride(lr: float, mean_square: float) -> float:
    """Delta L = eta·mean g², what a step of plain SGD takes off the loss to first order [8].

    With g of noise alone, mean g² = sigma²/n; else see :func:`mean_gradient_square`.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> loss_stride(0.5, mean_square=4.0)
        2.0
    """
    return at_least("lr", lr) * at_least("mean_square", mean_square)


def distance_to_minimum(gradient: float, second_derivative: float) -> float:
    """Distance d = w - b = g/h, signed, to the minimum b of a parabola [25, 26]; h = 2a.

    Raises:
        ValueError: a second derivative that is not above 0: there is no minimum to go to.

    Example:
        >>> distance_to_minimum(gradient=-3.0, second_derivative=2.0)
        -1.5
    """
    return gradient / above("second_derivative", second_derivative)


def mean_distance_to_minimum(
    deviation: float, batch_size: float, second_derivative: float
) -> float:
    """E|d| = sigma·√(2/(pi·n))/h [28], corrected; with h = 2a it is sigma/(a·√(2·pi·n)).

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> round(mean_distance_to_minimum(1.0, 100, second_derivative=2.0), 4)
        0.0399
    """
    magnitude = mean_gradient_magnitude(deviation, batch_size)
    return magnitude / above("second_derivative", second_derivative)
