"""Grids of equal size: every method and batch gets the same number of trials, alpha included.

    coarse rates  c·f^k,   k = -1, 0, 1 at first      c, f: the rule's centre and step
    alphas        a·s^j,   j = -1, 0, 1 at first      a, s: the part's own; a is at most its most

alpha is the parameter that a method's name leaves open, whatever its source calls it.

A method with an alpha tries every coarse rate with every alpha. One without spends as many trials
on rates between the coarse ones. Where a choice lies at the edge of a grid, all grids grow by the
same number of trials, each where its own best trial is: beyond the edge, or else around the best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Any

from ..methods import Part, parse

__all__ = ["Trial", "at_edges", "first_trials", "more_trials"]

SAME = 0.01  # closer than this, relatively, two rates are one
AROUND = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))


@dataclass(frozen=True)
class Trial:
    """One rate and, for methods that have one, one alpha; four digits, to be typed again."""

    lr: float
    alpha: float | None

    def moved(self, rate_factor: float, alpha_factor: float = 1.0) -> Trial:
        """The trial with the rate and the alpha times a factor each."""
        alpha = None if self.alpha is None else _rounded(self.alpha * alpha_factor)
        return Trial(_rounded(self.lr * rate_factor), alpha)


def first_trials(method: str, rates: int, alphas: int) -> list[Trial]:
    """The ``rates`` times ``alphas`` trials that a method starts with.

    Example:
        >>> first_trials("sngm+gnc", 2, 1)
        [Trial(lr=0.5, alpha=0.04), Trial(lr=1.0, alpha=0.04)]
        >>> [trial.lr for trial in first_trials("sngm", 2, 2)]
        [0.4204, 0.5946, 0.8409, 1.189]
    """
    found = parse(method)
    centre, step = found.rule.lr, found.rule.step
    if found.free is None:
        steps = [(k + 0.5) / alphas - 0.5 - rates // 2 for k in range(rates * alphas)]
        return [Trial(_rounded(centre * step**k), None) for k in steps]
    return [
        Trial(_rounded(centre * step ** (k - rates // 2)), alpha)
        for k in range(rates)
        for alpha in _alphas(found.free, centre, alphas)
    ]


def _alphas(part: Part[Any], rate: float, count: int) -> list[float]:
    """A grid around the part's centre; all of it lower where it would reach beyond its most."""
    first = part.first(rate)
    largest = first * part.step ** (count - 1 - count // 2)
    lower = min(1.0, part.most / largest)
    return [_rounded(first * lower * part.step ** (j - count // 2)) for j in range(count)]


def more_trials(method: str, tried: Sequence[Trial], best: Trial, count: int) -> list[Trial]:
    """Another ``count`` trials: beyond the edge that the best lies at, or else closer around it.

    Example:
        >>> tried = first_trials("sngm", 1, 3)
        >>> [trial.lr for trial in more_trials("sngm", tried, best=tried[-1], count=3)]
        [1.588, 2.0, 2.52]
    """
    asked = parse(method)
    factor, part = asked.rule.step, asked.free
    candidates = _along(tried, best, count, factor) if part is None else _across(best, factor, part)
    found: list[Trial] = []
    new = (t for t in candidates if not any(_same(t, other) for other in (*tried, *found)))
    for trial in islice(new, count):
        found.append(trial)
    return found


def at_edges(chosen: Trial, trials: Sequence[Trial], most: float = inf) -> set[str]:
    """Which edges of the trials' range the choice lies at, of "lr-", "lr+", "alpha-", "alpha+".

    An alpha of ``most``, beyond which there is none, is at no edge.

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
    return found - ({"alpha+"} if chosen.alpha is not None and chosen.alpha >= most else set())


def _along(tried: Sequence[Trial], best: Trial, count: int, factor: float) -> Iterator[Trial]:
    """Without an alpha: one coarse step beyond the edge in ``count`` parts, or ever finer."""
    edges = at_edges(best, tried)
    outwards = 1 if "lr+" in edges else -1
    if edges:
        yield from (best.moved(factor ** (outwards * (k + 1) / count)) for k in range(count))
    step = 1 / count
    while factor**step > 1 + SAME:
        step /= 2
        yield from (best.moved(factor**step), best.moved(factor**-step))
    # Too close to be told apart: far away instead.
    yield from (best.moved(factor ** (k * sign)) for k in range(1, 100) for sign in (1, -1))


def _across(best: Trial, factor: float, part: Part[Any]) -> Iterator[Trial]:
    """With an alpha: the eight neighbours one coarse step away, then half a step, and so on."""
    near = [
        (dx * size, dj * size) for size in (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16) for dx, dj in AROUND
    ]
    far = [(k, j) for k in range(2, 99) for j in (0, -1, 1)]
    for dx, dj in (*near, *far):
        trial = best.moved(factor**dx, part.step**dj)
        if trial.alpha is not None and trial.alpha <= part.most:
            yield trial


def _same(a: Trial, b: Trial) -> bool:
    close = abs(a.lr - b.lr) <= SAME * b.lr
    if a.alpha is None or b.alpha is None:
        return close and a.alpha is b.alpha
    return close and abs(a.alpha - b.alpha) <= SAME * b.alpha


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
