"""Runs made into curves: mean over seeds, the range of the seeds, and where a seed stopped."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from largebatch.lab.report.read import Record, Run, number

POINTS = 60


@dataclass(frozen=True)
class CurvePoint:
    """Mean, lowest and highest value of the seeds that had got this far.

    Example:
        >>> CurvePoint(1.0, 0.5, 0.4, 0.6, n=5).n
        5
    """

    x: float
    mean: float
    low: float
    high: float
    n: int


Curve = list[CurvePoint]
Pairs = list[tuple[float, float]]
T = TypeVar("T")


def train_loss(run: Run) -> Pairs:
    """(epoch, mean training loss of the steps that make up that epoch) of one run.

    Example:
        >>> lines = [{"kind": "train", "epoch": e, "loss": v} for e, v in ((0.5, 3.0), (1, 1.0))]
        >>> train_loss(Run("0", {}, {}, tuple(lines), None))
        [(1.0, 2.0)]
    """
    bins: dict[float, list[float]] = defaultdict(list)
    for record in run.metrics:
        epoch, loss = number(record.get("epoch")), number(record.get("loss"))
        if record.get("kind") == "train" and epoch is not None and loss is not None:
            bins[float(max(math.ceil(epoch - 1e-6), 1))].append(loss)
    return [(epoch, math.fsum(v) / len(v)) for epoch, v in sorted(bins.items())]


def evaluations(metric: str, x: str) -> Callable[[Run], Pairs]:
    """A reader of (x, value) pairs of one run's evaluations, x being "epoch" or "step".

    Example:
        >>> lines = ({"kind": "eval", "split": "test", "step": 4, "epoch": 1.0, "mse": 2.5},)
        >>> evaluations("mse", "step")(Run("0", {"split": "test"}, {}, lines, None))
        [(4.0, 2.5)]
    """

    def read(run: Run) -> Pairs:
        own = [r for r in run.metrics if r.get("kind") == "eval" and _split(r, run)]
        pairs = ((number(r.get(x)), number(r.get(metric))) for r in own)
        return [(at, value) for at, value in pairs if at is not None and value is not None]

    return read


def _split(record: Record, run: Run) -> bool:
    """Whether an evaluation is of the split that the run is about."""
    return bool(record.get("split") == run.config.get("split", record.get("split")))


def mean_curve(runs: Iterable[Run], read: Callable[[Run], Pairs]) -> Curve:
    """Mean and range over runs of what `read` finds at the same x, thinned to at most 60 points.

    Example:
        >>> lines = [{"kind": "train", "epoch": 1, "loss": v} for v in (1, 3)]
        >>> runs = [Run("0", {}, {}, (line,), None) for line in lines]
        >>> mean_curve(runs, train_loss)
        [CurvePoint(x=1.0, mean=2.0, low=1.0, high=3.0, n=2)]
    """
    found: dict[float, list[float]] = defaultdict(list)
    for run in runs:
        for x, value in read(run):
            found[x].append(value)
    curve = [
        CurvePoint(x, math.fsum(v) / len(v), min(v), max(v), len(v))
        for x, v in sorted(found.items())
    ]
    return thin(curve, POINTS)


def thin(points: Sequence[T], most: int) -> list[T]:
    """At most `most` points, evenly, the last one among them.

    Example:
        >>> curve = [CurvePoint(float(x), 0, 0, 0, 1) for x in range(10)]
        >>> [p.x for p in thin(curve, 4)]
        [0.0, 3.0, 6.0, 9.0]
    """
    if len(points) <= most:
        return list(points)
    step = (len(points) - 1) / (most - 1)
    return [points[round(k * step)] for k in range(most)]


def stopped_at(run: Run, x: str) -> float | None:
    """Where a diverged run stopped, in epochs or steps, as far as its records tell.

    Example:
        >>> result = {"status": "diverged", "value": None, "updates": 7}
        >>> stopped_at(Run("0", {}, {}, ({"epoch": 0.5, "step": 6},), result), "epoch")
        0.5
    """
    if run.status != "diverged":
        return None
    seen = [v for record in run.metrics if (v := number(record.get(x))) is not None]
    updates = number((run.result or {}).get("updates")) if x == "step" else None
    return updates if updates is not None else (max(seen) if seen else None)


def focus(values: Iterable[float], reach: float = 8.0) -> tuple[float, float]:
    """Limits that show the bulk: what is `reach` median deviations off is left outside.

    Example:
        >>> focus([90.0, 91.0, 92.0, 93.0, 10.0])
        (90.0, 93.0)
    """
    known = sorted(values)
    if not known:
        return 0.0, 1.0
    middle = known[len(known) // 2]
    typical = sorted(abs(v - middle) for v in known)[len(known) // 2]
    near = [v for v in known if abs(v - middle) <= reach * typical] if typical else known
    return near[0], near[-1]
