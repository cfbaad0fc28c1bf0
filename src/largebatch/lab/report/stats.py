"""Statistics of a comparison: means over seeds, paired differences, shares, a test set's own error.

Symbols: x_s value of seed s; n seeds; t the 0.975 quantile of Student's t with n - 1 degrees.

    mean over seeds      m = sum_s x_s / n,   sd = sqrt(sum_s (x_s - m)^2 / (n - 1))
    its 95% interval     m -+ t sd / sqrt(n)                                     (Student 1908)
    paired difference    the same of d_s = a_s - b_s over the seeds both finished
    recovered share      r = mean(a) / mean(b), a_s what seed s won back, b_s what it had lost;
                         interval: every r for which a_s - r b_s has a mean that Student's t cannot
                         tell from zero                                          (Fieller 1954)
    test set's error     100 sqrt(p (1 - p) / N) points for an accuracy p on N test examples

The seed interval says what other seeds would do on *this* test set; the test set's error says what
another test set of the same size would do to one accuracy.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import t as student

CONFIDENCE = 0.95
SEEDS_FOR_A_VERDICT = 5


@dataclass(frozen=True)
class Estimate:
    """A mean with sample standard deviation and interval, None for fewer than two values.

    Example:
        >>> Estimate(1.0, None, None, None, n=1).excludes_zero
        False
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether an interval exists and lies on one side of zero.

        Example:
            >>> Estimate(1.0, 0.1, 0.8, 1.2, n=5).excludes_zero
            True
        """
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Share:
    """A recovered share (1.0 is all of it) with Fieller's interval.

    Example:
        >>> Share(0.9, 0.8, 1.0).value
        0.9
    """

    value: float
    low: float
    high: float


def quantile(n: int, confidence: float = CONFIDENCE) -> float:
    """Two-sided quantile of Student's t for n values, that is n - 1 degrees of freedom.

    Example:
        >>> round(quantile(5), 3)
        2.776
    """
    if n < 2:
        raise ValueError(f"Student's interval needs 2 values or more, given {n}: run more seeds")
    return float(student.ppf(0.5 + confidence / 2, n - 1))


def estimate(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Mean, sample standard deviation and Student interval of independent values.

    Example:
        >>> e = estimate([1.0, 2.0, 3.0])
        >>> e.mean, e.sd, round(e.high - e.mean, 3)
        (2.0, 1.0, 2.484)
    """
    n = len(values)
    if n == 0:
        raise ValueError("a mean needs 1 value or more, given 0: leave the row empty instead")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, None, None, None, n)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = quantile(n, confidence) * sd / math.sqrt(n)
    return Estimate(mean, sd, mean - half, mean + half, n)


def common(*columns: Mapping[int, float | None]) -> list[int]:
    """Seeds for which every column has a value (None: diverged), in order.

    Example:
        >>> common({0: 1.0, 1: None, 2: 3.0}, {0: 1.0, 1: 1.0, 2: 2.0, 3: 4.0})
        [0, 2]
    """
    first, *others = columns
    return sorted(s for s in first if all(c.get(s) is not None for c in (first, *others)))


def paired_difference(
    a: Mapping[int, float | None],
    b: Mapping[int, float | None],
    confidence: float = CONFIDENCE,
) -> Estimate | None:
    """Estimate of a - b over the seeds that both finished; None where there is no such seed.

    Example:
        >>> paired_difference({0: 5.0, 1: 7.0, 2: None}, {0: 4.0, 1: 6.0, 2: 6.0}).mean
        1.0
    """
    differences = [float(a[s] or 0.0) - float(b[s] or 0.0) for s in common(a, b)]
    return estimate(differences, confidence) if differences else None


def binomial_error_points(accuracy_percent: float, examples: int) -> float:
    """Standard error in points of an accuracy in percent on `examples` independent examples.

    Example:
        >>> binomial_error_points(50.0, 100)
        5.0
    """
    if examples < 1 or not 0 <= accuracy_percent <= 100:
        raise ValueError(
            "the binomial error needs an accuracy from 0 to 100 and 1 example or more, "
            f"given {accuracy_percent} and {examples}: is the metric an accuracy in percent?"
        )
    p = accuracy_percent / 100
    return 100 * math.sqrt(p * (1 - p) / examples)


def recovered_share(won: Sequence[float], lost: Sequence[float]) -> Share | None:
    """Share mean(won) / mean(lost) of paired values, with Fieller's 95% interval.

    None where there are fewer than two pairs, or where the loss itself cannot be told from zero or
    is negative: there is nothing then to have a share of.

    Example:
        >>> recovered_share([8.0, 8.0, 8.0], [10.0, 10.0, 10.0])
        Share(value=0.8, low=0.8, high=0.8)
        >>> recovered_share([1.0, -1.0], [1.0, -1.0]) is None
        True
    """
    if len(won) != len(lost) or len(won) < 2:
        return None
    n, a, b = len(won), math.fsum(won) / len(won), math.fsum(lost) / len(lost)
    factor = quantile(n) ** 2 / (n * (n - 1))
    aa = factor * math.fsum((x - a) ** 2 for x in won)
    bb = factor * math.fsum((y - b) ** 2 for y in lost)
    ab = factor * math.fsum((x - a) * (y - b) for x, y in zip(won, lost, strict=True))
    # (b^2 - bb) r^2 - 2 (a b - ab) r + (a^2 - aa) <= 0: an interval only if b^2 > bb
    if b <= 0 or (square := b * b - bb) <= 0:
        return None
    middle = a * b - ab
    root = math.sqrt(max(middle**2 - square * (a * a - aa), 0.0))
    return Share(a / b, (middle - root) / square, (middle + root) / square)
