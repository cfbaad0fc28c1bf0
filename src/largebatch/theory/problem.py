"""What the bounds are evaluated from: four measured numbers, and a setting to run.

    D = F(w_0) - F*                              gap
    ‖grad F(u) - grad F(w)‖ <= L·‖u - w‖         smoothness
    ‖H(w)‖ <= L + lambda·‖grad F(w)‖             relaxed smoothness (L, lambda)
    E‖grad f_i(w) - grad F(w)‖² <= sigma²        deviation of one example's gradient

F is the mean loss over examples, H its Hessian. With F in loss units and w without a unit, D, L,
sigma and a gradient norm have the unit of the loss, and lambda and a learning rate have none.
Source: Zhao et al. (SNGM), Assumption 1, Definitions 1 and 2. Definition 1 states smoothness from
one side only; with momentum the proofs need both, as written here.
"""

from __future__ import annotations

from dataclasses import dataclass

from .checks import above, at_least, fraction

__all__ = ["Problem", "Setting", "momentum_factor"]


@dataclass(frozen=True)
class Problem:
    """What of a training problem enters a bound.

    Args:
        gap: D, the loss at the start less the least possible loss (0 is always a valid choice for
            the latter with cross entropy or squared error), above 0.
        smoothness: L, the largest curvature met, above 0.
        deviation: sigma, the root of the mean squared distance of one example's gradient from the
            mean gradient, so the square root of the trace of its covariance; 0 or more.
        relaxed_smoothness: lambda, by which curvature may grow with the gradient norm; 0 is
            ordinary smoothness.

    Raises:
        ValueError: a number that is out of its range.

    Example:
        >>> Problem(gap=2.3, smoothness=10.0, deviation=5.0)
        Problem(gap=2.3, smoothness=10.0, deviation=5.0, relaxed_smoothness=0.0)
    """

    gap: float
    smoothness: float
    deviation: float
    relaxed_smoothness: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        above("gap", self.gap)
        above("smoothness", self.smoothness)
        at_least("deviation", self.deviation)
        at_least("relaxed_smoothness", self.relaxed_smoothness)


@dataclass(frozen=True)
class Setting:
    """A learning rate, a number of steps and a batch size; as optima they need not be whole.

    Example:
        >>> Setting(lr=0.1, steps=100.0, batch_size=64.0).computations
        6400.0
    """

    lr: float
    steps: float
    batch_size: float

    @property
    def computations(self) -> float:
        """C = T·B, the number of single-example gradients computed."""
        return self.steps * self.batch_size


def momentum_factor(momentum: float) -> float:
    """How momentum magnifies the drift in a bound of SNGM: k = (1 + beta)/(1 - beta)².

    Source: Zhao et al. (SNGM), Theorem 1.

    Raises:
        ValueError: momentum outside [0, 1).

    Example:
        >>> momentum_factor(0.0), round(momentum_factor(0.9), 9)
        (1.0, 190.0)
    """
    fraction("momentum", momentum)
    return (1 + momentum) / (1 - momentum) ** 2
