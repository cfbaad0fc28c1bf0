"""A panel out of layers: axes that show all of them, or those that panels are to share."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .. import svg
from ..panels import HEIGHT, WIDTH, Axes, frame, inside
from ..parts import Panel
from ..scales import padded, tick_text
from .layers import Layer, Place

WIDE = 30.0
"""Largest over smallest value from which an axis is logarithmic, where nothing else is asked."""


@dataclass(frozen=True)
class Across:
    """What the horizontal axis counts, and how one of its places is said.

    Example:
        >>> EPOCHS.said(2.5), BATCH.said(1024.0)
        ('epoch 2.5', 'batch 1,024')
    """

    name: str
    said: Callable[[float], str]
    log: bool = False
    ticks: Sequence[tuple[float, str]] | None = None


EPOCHS = Across("epochs", lambda x: f"epoch {tick_text(round(x, 3))}")
BATCH = Across("batch size", lambda x: f"batch {tick_text(x)}", log=True)


@dataclass(frozen=True)
class Limits:
    """What a vertical axis shows.

    Example:
        >>> Limits(0.0, 1.0).log
        False
    """

    low: float
    high: float
    log: bool = False


def numbered(name: str, labels: Sequence[str], first: int = 1) -> Across:
    """An axis of named things, counted: the number stands on it, pointing at one says its name.

    Example:
        >>> axis = numbered("layer", ["conv.weight", "fc.weight"])
        >>> axis.said(1.0), axis.ticks
        ('2: fc.weight', [(0, '1'), (1, '2')])
    """
    every = max(math.ceil(len(labels) / 8), 1)
    ticks = [(k, str(k + first)) for k in range(0, len(labels), every)]
    return Across(name, lambda x: f"{round(x) + first}: {labels[round(x)]}", ticks=ticks)


def limits(
    layers: Iterable[Layer], log: bool | None = None, within: tuple[float, float] | None = None
) -> Limits | None:
    """Limits that show all layers; logarithmic, unless said, where positive values span a lot.

    Args:
        layers: what is drawn.
        log: whether the axis is logarithmic; None where the values say so.
        within: what values cannot leave.

    Example:
        >>> from .layers import Line
        >>> limits([Line("", [(0.0, 1.0), (1.0, 1000.0)], "")]).log, limits([]) is None
        (True, True)
    """
    values = [v for layer in layers for v in layer.ys() if abs(v) < 1e300]
    positive = [v for v in values if v > 0]
    if log is None:
        log = bool(positive) and len(positive) == len(values) and max(values) > WIDE * min(values)
    if log:
        if not positive:
            return None
        air = max((max(positive) / min(positive)) ** 0.06, 1.15)
        return Limits(min(positive) / air, max(positive) * air, True)
    if not values:
        return None
    low, high = padded(values)
    least = 1e-4 * max(abs(low), abs(high))
    low, high = min(low, max(high, low) - least), max(high, low + least)
    if within is not None:
        low, high = max(low, within[0]), min(high, within[1])
    elif min(values) >= 0:
        low = max(low, 0.0)
    return Limits(low, high) if low < high else None


def plot(
    caption: str,
    across: Across,
    layers: Sequence[Layer],
    shown: Limits | None = None,
    note: str = "",
    name: str = "",
) -> Panel | None:
    """A chart; None where no layer has a value that its axes can show.

    Args:
        caption: what stands above it: what the vertical axis measures.
        across: the horizontal axis.
        layers: in the order in which they are drawn.
        shown: the vertical axis, where several charts share one.
        note: what is to be said of this chart alone.
        name: for a screen reader, where the caption alone would not do.

    Example:
        >>> from .layers import Line
        >>> panel = plot("cosine", EPOCHS, [Line("gnc", [(1.0, 0.5)], "r0", "circle")])
        >>> "gnc, epoch 1: 0.5" in panel.chart
        True
        >>> plot("cosine", EPOCHS, []) is None
        True
    """
    shown = shown or limits(layers)
    places = [x for layer in layers for x in layer.xs() if not across.log or x > 0]
    if shown is None or not places or not any(layer.ys() for layer in layers):
        return None
    axes = Axes(across.name, _span(places, across), caption, (shown.low, shown.high))
    axes = Axes(axes.x_name, axes.x, axes.y_name, axes.y, across.log, shown.log)
    x, y = axes.scales
    place = Place(x, y, across.said)
    drawn = [frame(axes, across.ticks)]
    drawn.append(inside(axes, *(layer.drawn(place) for layer in layers)))
    drawn += [spot for layer in layers for spot in layer.spots(place)]
    words = f"{name or caption}, against {across.name}"
    return Panel(caption, note, svg.picture(WIDTH, HEIGHT, words, *drawn))


def _span(places: Sequence[float], across: Across) -> tuple[float, float]:
    low, high = min(places), max(places)
    if across.log:
        return (low / 1.2, high * 1.2) if low < high else (low / 2, high * 2)
    if across.ticks is not None:
        return low - 0.5, high + 0.5
    alone = max(1.0, 0.1 * abs(low)) if across is EPOCHS else 0.1 * abs(low) or 1.0
    return (low, high) if low < high else (low - alone, high + alone)
