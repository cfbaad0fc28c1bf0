"""A matrix as a picture: darker where the value is larger, in nine steps."""

import math
from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup

from .. import svg
from ..panels import HEIGHT, WIDTH, Axes, frame, inside
from ..parts import Panel
from ..scales import short
from .fields import finite
from .figure import Key

STEPS = 9


def heat(
    caption: str,
    across: Sequence[float | None],
    down: Sequence[float | None],
    values: Sequence[Sequence[float | None]],
) -> Panel | None:
    """A cell for each pair of positions; None where no value is known.

    Steps are equal on a logarithmic scale where all values are positive. A cell says its value;
    the lowest, the highest and the one nearest to (0, 0) are reached by keyboard too.

    Args:
        caption: what stands above it.
        across: positions of the matrix's rows, on the horizontal axis.
        down: positions of its columns, on the vertical one.
        values: the matrix.

    Example:
        >>> panel = heat("loss", [-1.0, 1.0], [0.0, 1.0], [[1.0, 2.0], [3.0, None]])
        >>> panel.chart.count("<rect"), heat("loss", [], [], []) is None
        (3, True)
    """
    cells = [
        (a, b, value)
        for a, row in zip(across, values, strict=False)
        for b, value in zip(down, row, strict=False)
        if a is not None and b is not None and value is not None
    ]
    if not cells:
        return None
    wide, high = _step(across), _step(down)
    spans = [
        (min(v) - s / 2, max(v) + s / 2) for v, s in ((finite(across), wide), (finite(down), high))
    ]
    axes = Axes("first direction", spans[0], "second direction", spans[1])
    x, y = axes.scales
    drawn = []
    for a, b, value in cells:
        left, right = x(a - wide / 2), x(a + wide / 2)
        top, floor = y(b + high / 2), y(b - high / 2)
        drawn.append(
            svg.element(
                "rect",
                svg.element("title", _said(a, b, value)),
                x=left,
                y=top,
                width=right - left,
                height=floor - top,
                class_="heat",
                fill_opacity=_depth(value, [v for _, _, v in cells]),
            )
        )
    chart = [frame(axes), inside(axes, *drawn), *_spots(cells, axes)]
    name = f"{caption}: darker is larger"
    return Panel(caption, "", svg.picture(WIDTH, HEIGHT, name, *chart))


def scale_key() -> Key:
    """A legend's entry: the nine steps, from the lowest value to the highest.

    Example:
        >>> scale_key().swatch.count("<rect")
        9
    """
    cells = [
        svg.element(
            "rect",
            x=34 * k / STEPS,
            y=1,
            width=34 / STEPS,
            height=10,
            class_="heat",
            fill_opacity=_opacity(k / STEPS),
        )
        for k in range(STEPS)
    ]
    box = svg.element("svg", *cells, viewBox="0 0 34 12", class_="chart", aria_hidden="true")
    return Key("from the lowest to the highest loss of a chart", box)


def _said(a: float, b: float, value: float) -> str:
    return f"at {short(a)}, {short(b)}: {short(value)}"


def _spots(cells: Sequence[tuple[float, float, float]], axes: Axes) -> list[Markup]:
    x, y = axes.scales
    centre = min(cells, key=lambda c: (c[0] ** 2 + c[1] ** 2, c))
    lowest, highest = (pick(cells, key=lambda c: (c[2], c)) for pick in (min, max))
    named = {
        centre: ("the weights", "cross", "diverged"),
        highest: ("highest", "triangle", "trial fixed"),
    }
    words, shape, look = named.get(lowest, ("", "circle", "trial fixed"))
    named[lowest] = (f"{words}, lowest" if words else "lowest", shape, look)
    return [
        svg.point(f"{word}, {_said(*cell)}", svg.marker(shape, x(cell[0]), y(cell[1]), look, 0.9))
        for cell, (word, shape, look) in named.items()
    ]


def _step(positions: Sequence[float | None]) -> float:
    known = sorted(set(finite(positions)))
    gaps = [b - a for a, b in pairwise(known)]
    return min(gaps, default=1.0)


def _depth(value: float, values: Sequence[float]) -> float:
    """Opacity of a cell, one of nine."""
    low, high = min(values), max(values)
    if low > 0:
        low, high, value = math.log(low), math.log(high), math.log(value)
    share = (value - low) / (high - low) if high > low else 0.0
    return _opacity(share)


def _opacity(share: float) -> float:
    return round(0.06 + 0.84 * min(int(share * STEPS), STEPS - 1) / (STEPS - 1), 3)
