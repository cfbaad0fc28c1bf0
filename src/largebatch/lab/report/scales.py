"""Scales from data to picture, and their ticks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from largebatch.lab.report.metric import MINUS


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic scale from [low, high] to [start, end], clamped unless said.

    Example:
        >>> s = Scale(0.0, 10.0, 100.0, 200.0)
        >>> s(5.0), s(-3.0), Scale(1.0, 100.0, 0.0, 10.0, log=True)(10.0)
        (150.0, 100.0, 5.0)
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    clamp: bool = True

    def __call__(self, value: float) -> float:
        """Position of a value."""
        low, high, at = (
            math.log(max(v, 1e-300)) if self.log else v for v in (self.low, self.high, value)
        )
        share = (at - low) / (high - low) if high > low else 0.5
        if self.clamp:
            share = min(max(share, 0.0), 1.0)
        return self.start + share * (self.end - self.start)

    def ticks(self, wanted: int = 5) -> list[tuple[float, str]]:
        """Round values with their text.

        Example:
            >>> Scale(88.0, 97.0, 0, 1).ticks(4)
            [(90.0, '90'), (95.0, '95')]
            >>> Scale(0.01, 1.0, 0, 1, log=True).ticks()
            [(0.01, '0.01'), (0.03, '0.03'), (0.1, '0.1'), (0.3, '0.3'), (1.0, '1')]
            >>> Scale(1e-13, 1e-12, 0, 1, log=True).ticks()[0]
            (1e-13, '1e−13')
        """
        values = (
            _log_ticks(self.low, self.high, wanted)
            if self.log
            else _ticks(self.low, self.high, wanted)
        )
        return [(v, tick_text(v)) for v in values]


def tick_text(value: float) -> str:
    """Text of a tick.

    Example:
        >>> tick_text(1024), tick_text(-0.5), tick_text(0.1 + 0.2), tick_text(2e-5)
        ('1,024', '−0.5', '0.3', '2e−5')
    """
    if value and not 1e-4 <= abs(value) < 1e7:
        digits, _, power = f"{value:.3g}".partition("e")
        return (f"{digits}e{int(power)}" if power else digits).replace("-", MINUS)
    return f"{round(value, 6):,.10g}".replace("-", MINUS)


def short(value: float | None) -> str:
    """A measured number to three figures; a dash for None.

    Example:
        >>> short(1162.3), short(0.01254), short(-1.5e-7), short(None)
        ('1,160', '0.0125', '−1.5e−7', '–')
    """
    return "\N{EN DASH}" if value is None else tick_text(float(f"{value:.3g}"))


def padded(values: Iterable[float], share: float = 0.06) -> tuple[float, float]:
    """Limits around values, with a little air; one value gets air of its own size.

    Example:
        >>> padded([90.0, 100.0], 0.1)
        (89.0, 101.0)
        >>> padded([])
        (0.0, 1.0)
    """
    known = list(values)
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    air = share * (high - low) or 0.05 * abs(high) or 1.0
    return low - air, high + air


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    raw = (high - low) / max(wanted, 1)
    if raw <= 0 or not math.isfinite(raw):
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [_plain(k * step) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, wanted: int) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**k for k in range(first, last + 1) for m in steps]
        inside = [_plain(v) for v in found if low * 0.999 <= v <= high * 1.001]
        if len(inside) <= wanted:
            return inside
    skip = math.ceil(len(inside) / wanted)
    return inside[::skip]


def _plain(value: float) -> float:
    """Without the last digits that sums leave: however small the value is."""
    return float(f"{value:.12g}")
