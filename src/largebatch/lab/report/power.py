"""How many pairs of seeds it takes to see a difference, or to rule one out.

Symbols: n pairs; D the true mean of their differences, s the standard deviation; t the 1 - a/2
quantile of Student's t with n - 1 degrees; a = 5%, two-sided.

    to see D        P(|T| > t),  T noncentral t with n - 1 degrees, noncentrality D sqrt(n)/s
    to rule out M   P(|m| + t u/sqrt(n) < M) where D = 0; m the mean, u the deviation found:
                    the interval lies within [-M, M]                     (two one-sided tests)
    to decide       t s/sqrt(n) <= M/2: wherever such an interval lies, it leaves zero out or lies
                    within [-M, M]

s is not known but estimated from few pairs, and half of all estimates are too low: `upper` is the
limit that s stays below with a given confidence, (n - 1) s^2 over the chi-square quantile, which is
what a plan should be made with (Browne 1995).
"""

import math
from collections.abc import Callable

from scipy.integrate import quad
from scipy.stats import chi, chi2, nct, norm
from scipy.stats import t as student

__all__ = ["pairs_to_decide", "pairs_to_rule_out", "pairs_to_see", "ruling_out", "seeing", "upper"]

LEVEL = 0.05
MOST_PAIRS = 10_000_000


def seeing(pairs: int, difference: float, sd: float) -> float:
    """Power of the two-sided paired t test at 5% to see a true difference.

    Example:
        >>> round(seeing(10, 1.0, 1.0), 3)
        0.803
    """
    if pairs < 2:
        return 0.0
    if sd == 0:
        return 1.0 if difference else LEVEL
    quantile = _quantile(pairs)
    shift = abs(difference) * math.sqrt(pairs) / sd
    if shift > 30:  # the noncentral t's tails lose their digits there, and the power is 1
        return 1.0
    power = nct.sf(quantile, pairs - 1, shift) + nct.cdf(-quantile, pairs - 1, shift)
    return min(float(power), 1.0)


def ruling_out(pairs: int, margin: float, sd: float) -> float:
    """Chance that the 95% interval lies within the margin where there is no difference.

    Example:
        >>> round(ruling_out(15, 1.0, 1.0), 1)
        0.9
    """
    if pairs < 2:
        return 0.0
    if sd == 0:
        return 1.0
    quantile, reach = _quantile(pairs), margin * math.sqrt(pairs) / sd
    degrees = pairs - 1

    def inside(found: float) -> float:
        """Given the standard deviation found, over the true one, times sqrt(degrees)."""
        left = reach - quantile * found / math.sqrt(degrees)
        return float((2 * norm.cdf(left) - 1) * chi.pdf(found, degrees))

    # The density is negligible 12 standard deviations (of less than 0.75 each) from its mean.
    centre, last = math.sqrt(degrees), reach * math.sqrt(degrees) / quantile
    low, high = max(0.0, centre - 9), min(last, centre + 9)
    return float(quad(inside, low, high, limit=200)[0]) if high > low else 0.0


def pairs_to_see(difference: float, sd: float, power: float = 0.8) -> int:
    """Fewest pairs with at least this power to see a true difference.

    Example:
        >>> pairs_to_see(1.0, 1.0), pairs_to_see(0.5, 1.0)
        (10, 34)
    """
    _check(difference, power)
    return _fewest(lambda pairs: seeing(pairs, difference, sd) >= power)


def pairs_to_rule_out(margin: float, sd: float, power: float = 0.8) -> int:
    """Fewest pairs that rule out what is beyond the margin, with this chance if nothing is there.

    Example:
        >>> pairs_to_rule_out(1.0, 1.0)
        13
    """
    _check(margin, power)
    return _fewest(lambda pairs: ruling_out(pairs, margin, sd) >= power)


def pairs_to_decide(margin: float, sd: float) -> int:
    """Fewest pairs whose interval leaves zero out or lies within the margin, wherever it lies.

    Example:
        >>> pairs_to_decide(1.0, 1.0)
        18
    """
    _check(margin, 0.5)
    return _fewest(lambda n: _quantile(n) * sd <= margin / 2 * math.sqrt(n))


def upper(sd: float, pairs: int, confidence: float = 0.8) -> float:
    """What the true standard deviation stays below, with this confidence.

    Example:
        >>> round(upper(1.0, 8), 3)
        1.353
    """
    if pairs < 2:
        raise ValueError(f"a spread needs 2 pairs or more, given {pairs}: run more pilot seeds")
    return sd * math.sqrt((pairs - 1) / float(chi2.ppf(1 - confidence, pairs - 1)))


def _quantile(pairs: int) -> float:
    return float(student.ppf(1 - LEVEL / 2, pairs - 1))


def _check(difference: float, power: float) -> None:
    if not (difference > 0 and math.isfinite(difference)):
        raise ValueError(
            f"a number of pairs needs a difference above 0 to look for, given {difference}: zero "
            "takes infinitely many"
        )
    if not 0 < power < 1:
        raise ValueError(f"power is a chance between 0 and 1, given {power}: 0.8 is usual")


def _fewest(enough: Callable[[int], bool]) -> int:
    """The smallest number of pairs that is enough, by doubling, then halving."""
    high = 2
    while not enough(high):
        if high > MOST_PAIRS:
            return high
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return max(high, 2)
