"""How a metric is named and its numbers are written.

Accuracy is in percent and its differences in points; any other metric is written as it is.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Metric:
    """A metric's words and digits.

    Example:
        >>> m = Metric("accuracy_percent", True, digits=1)
        >>> m.value(91.25), m.points(-3.04), m.label
        ('91.2%', '3.0 points', 'accuracy')
        >>> Metric("mse", False, digits=3).signed(-0.0123)
        '−0.012'
    """

    name: str
    higher_is_better: bool
    digits: int

    @property
    def is_accuracy(self) -> bool:
        """Whether it is an accuracy in percent, so that the binomial error holds."""
        return self.name == "accuracy_percent"

    @property
    def percent(self) -> bool:
        """Whether its values are percentages."""
        return self.name.endswith("_percent")

    @property
    def label(self) -> str:
        """Its name in a sentence."""
        return self.name.removesuffix("_percent").replace("_", " ")

    @property
    def axis(self) -> str:
        """Its name on an axis."""
        return f"{self.label} (%)" if self.percent else self.label

    @property
    def sign(self) -> float:
        """+1 where higher is better, else -1: times a difference it says what was gained."""
        return 1.0 if self.higher_is_better else -1.0

    def limits(self, low: float, high: float) -> tuple[float, float]:
        """Limits of an axis; a percentage has its own.

        Example:
            >>> Metric("accuracy_percent", True, 1).limits(60.0, 102.0)
            (60.0, 100.0)
        """
        return (max(low, 0.0), min(high, 100.0)) if self.percent else (low, high)

    def plain(self, value: float) -> str:
        """The number alone."""
        text = f"{value:.{self.digits}f}" if abs(value) < 1e7 else f"{value:.3g}"
        zero = not text.strip("-0.")
        return text.lstrip("-") if zero else text.replace("-", MINUS)

    def value(self, value: float) -> str:
        """The number with its unit."""
        return self.plain(value) + ("%" if self.percent else "")

    def signed(self, value: float) -> str:
        """A difference with its sign, kept where it rounds to zero: a limit of +0.0 is not zero."""
        text = self.plain(abs(value))
        return f"+{text}" if value > 0 else f"{MINUS}{text}" if value < 0 else text

    def points(self, value: float) -> str:
        """The size of a difference with its unit."""
        return self.sized(self.plain(abs(value)))

    def sized(self, text: str) -> str:
        """A difference that is already written, with its unit.

        Example:
            >>> Metric("accuracy_percent", True, 1).sized("1")
            '1 point'
        """
        if not self.percent:
            return f"{text} {self.label}"
        return f"{text} point" if text in ("1", "+1", f"{MINUS}1") else f"{text} points"


def metric_of(name: str, higher_is_better: bool, spreads: Iterable[float]) -> Metric:
    """A metric with digits for a typical spread over seeds to two figures (percent: 1 or 2).

    Example:
        >>> metric_of("accuracy_percent", True, [0.6, 0.9]).digits
        1
        >>> metric_of("mse", False, [0.0012]).digits
        4
    """
    known = sorted(s for s in spreads if s > 0)
    typical = known[len(known) // 2] if known else 0.1
    if name.endswith("_percent"):
        return Metric(name, higher_is_better, 1 if typical >= 0.2 else 2)
    digits = 1 - math.floor(math.log10(typical))
    return Metric(name, higher_is_better, min(max(digits, 0), 8))


def count(value: float) -> str:
    """A whole number with separators.

    Example:
        >>> count(1297)
        '1,297'
    """
    return f"{value:,.0f}"


def brief(value: float | None) -> str:
    """A rate or a share of a second, to three figures; a dash for None.

    Example:
        >>> brief(0.0125), brief(1.6), brief(None), brief(1234567.0), brief(0.00001)
        ('0.0125', '1.6', '–', '1.23e+06', '1e-05')
    """
    return "\N{EN DASH}" if value is None else f"{value:.3g}"


def percent(share: float) -> str:
    """A share in whole percent.

    Example:
        >>> percent(0.876), percent(-0.2)
        ('88%', '−20%')
    """
    return f"{100 * share:.0f}%".replace("-0%", "0%").replace("-", MINUS)
