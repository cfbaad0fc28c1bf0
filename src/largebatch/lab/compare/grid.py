"""Grids of equal size: every method and batch gets the same number of trials, alpha included.

    coarse rates  c·2^k,    k = low..high              c: the rule's centre
    alphas        a·3^j,    j = alpha_low..alpha_high  a: the perturbation's reach / c

A method with an alpha tries every coarse rate with every alpha. One without spends as many trials
on rates between the coarse ones. Where a choice lies at the edge of a grid, all grids grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..methods import parse
from .question import Pair

__all__ = ["Grid", "Trial", "at_edges"]

RATE_FACTOR, ALPHA_FACTOR = 2.0, 3.0
_TWELFTHS = (0, -4, 4, 2, -2, 6, -3, 3, 1, -1, 5, -5)


@dataclass(frozen=True)
class Trial:
    """One rate and, for methods that have one, one alpha."""

    lr: float
    alpha: float | None


@dataclass(frozen=True)
class Grid:
    """The range of a grid in coarse steps, the same for all pairs of a comparison."""

    low: int
    high: int
    alpha_low: int
    alpha_high: int

    @classmethod
    def of(cls, rates: int, alphas: int) -> Grid:
        """``rates`` coarse rates and ``alphas`` alphas around their centres."""
        low, alpha_low = -(rates // 2), -(alphas // 2)
        return cls(low, low + rates - 1, alpha_low, alpha_low + alphas - 1)

    @property
    def size(self) -> int:
        """Trials of every pair."""
        return (self.high - self.low + 1) * (self.alpha_high - self.alpha_low + 1)

    def trials(self, pair: Pair) -> list[Trial]:
        """The trials of a pair."""
        method = parse(pair[0])
        centre = method.rule.lr
        coarse = range(self.low, self.high + 1)
        alphas = range(self.alpha_low, self.alpha_high + 1)
        if method.perturb is None:
            places = sorted(k + place for k in coarse for place in _between(len(alphas)))
            return [Trial(_rounded(centre * RATE_FACTOR**k), None) for k in places]
        first = method.perturb.reach / centre
        return [
            Trial(_rounded(centre * RATE_FACTOR**k), _rounded(first * ALPHA_FACTOR**j))
            for k in coarse
            for j in alphas
        ]

    def widened(self, chosen: Mapping[Pair, Trial]) -> Grid:
        """This grid, one step wider on every side at whose edge a choice lies."""
        edges = set().union(*(at_edges(t, self.trials(pair)) for pair, t in chosen.items()))
        return replace(
            self,
            low=self.low - ("lr-" in edges),
            high=self.high + ("lr+" in edges),
            alpha_low=self.alpha_low - ("alpha-" in edges),
            alpha_high=self.alpha_high + ("alpha+" in edges),
        )


def at_edges(chosen: Trial, trials: list[Trial]) -> set[str]:
    """Which edges of the trials' range the choice lies at, of "lr-", "lr+", "alpha-", "alpha+".

    Example:
        >>> at_edges(Trial(1.0, None), [Trial(1.0, None), Trial(2.0, None)])
        {'lr-'}
    """
    found = set()
    for name in ("lr", "alpha"):
        values = sorted({v for t in trials if (v := getattr(t, name)) is not None})
        value = getattr(chosen, name)
        # A single value is not a range: nothing was searched that could be widened.
        if value is not None and len(values) > 1:
            found |= {f"{name}-"} if value == values[0] else set()
            found |= {f"{name}+"} if value == values[-1] else set()
    return found


def _between(count: int) -> list[float]:
    """Places of finer rates around a coarse one, in coarse steps; longer lists hold shorter ones.

    Example:
        >>> _between(3) == [0, -1 / 3, 1 / 3], len(set(_between(40)))
        (True, 40)
    """
    places = [twelfth / 12 for twelfth in _TWELFTHS]
    while len(places) < count:
        places += [place + 0.5 / len(places) for place in places]
    return places[:count]


def _rounded(value: float) -> float:
    """Four significant digits: a rate that a reader can type again."""
    return float(f"{value:.4g}")
