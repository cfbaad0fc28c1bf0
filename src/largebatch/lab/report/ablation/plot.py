"""Rows of dots with their mean and 95% interval: differences by contrast, values by arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from largebatch.lab.report import svg
from largebatch.lab.report.curves import focus
from largebatch.lab.report.dots import Layout
from largebatch.lab.report.marks import shorten
from largebatch.lab.report.scales import Scale, padded
from largebatch.lab.report.stats import Estimate

TOP, BOTTOM = 22, 44
SHAPES = {"best": "circle", "method": "circle", "baseline": "diamond", "control": "triangle"}


@dataclass(frozen=True)
class Dots:
    """One row of a picture: its name, its words, what is drawn.

    Example:
        >>> Dots("gnc", "90.0%", "gnc: mean 90.0%", None, {}).role
        'method'
    """

    label: str
    said: str
    described: str
    estimate: Estimate | None
    values: Mapping[int, float]
    role: str = "method"


@dataclass(frozen=True)
class Frame:
    """What is around the rows.

    Attributes:
        name: of the picture, for a screen reader.
        axis: below the scale.
        zero: where a line stands, None for none.
        band: an area between two values, None for none, and its words.
        log: whether the scale is logarithmic.
        limits: of the scale, None for those of what is drawn.

    Example:
        >>> Frame("differences", "points").band is None
        True
    """

    name: str
    axis: str
    zero: float | None = None
    band: tuple[float, float] | None = None
    band_words: str = ""
    log: bool = False
    limits: tuple[float, float] | None = None


def dots(rows: Sequence[Dots], frame: Frame, width: int, kind: str = "") -> Markup:
    """The picture; "wide" and "narrow" are shown on pages of that kind alone.

    Example:
        >>> row = Dots("gnc", "0.1", "gnc: 0.1", Estimate(0.1, 0.1, 0.0, 0.2, 2), {0: 0.0, 1: 0.2})
        >>> "gnc: 0.1" in dots([row], Frame("differences", "points", zero=0.0), 340)
        True
    """
    drawn, height = parts(rows, frame, width)
    return svg.picture(width, height, frame.name, drawn, class_=kind)


def parts(rows: Sequence[Dots], frame: Frame, width: int) -> tuple[Markup, float]:
    """What the picture is made of, without the svg element around it, and its height.

    Example:
        >>> parts([], Frame("differences", "points"), 760)[1]
        66.0
    """
    layout = Layout.of(width)
    if not layout.stacked:
        layout = Layout(width, 190, 160, 40, False, 30)
    height = float(TOP + BOTTOM + layout.row * len(rows))
    scale = Scale(*_limits(rows, frame), layout.left, width - layout.right, frame.log)
    drawn = [_axis(scale, frame, layout, height)]
    drawn += [
        _row(row, scale, layout, TOP + layout.row * (index + 0.5)) for index, row in enumerate(rows)
    ]
    return Markup("").join(drawn), height


def _limits(rows: Sequence[Dots], frame: Frame) -> tuple[float, float]:
    if frame.limits is not None:
        return frame.limits
    seen = list(focus(v for row in rows for v in row.values.values()))
    seen += [v for row in rows if (e := row.estimate) for v in (e.low, e.high) if v is not None]
    seen += [v for v in (frame.zero, *(frame.band or ())) if v is not None]
    return padded(seen, 0.06)


def _axis(scale: Scale, frame: Frame, layout: Layout, height: float) -> Markup:
    floor = height - BOTTOM + 6
    drawn = []
    if frame.band is not None:
        low, high = (scale(v) for v in frame.band)
        drawn.append(
            svg.element(
                "rect", x=low, y=TOP - 4, width=high - low, height=floor - TOP + 4, class_="margin"
            )
        )
        if frame.band_words:
            drawn.append(svg.text(frame.band_words, (low + high) / 2, 12, "note", "middle"))
    for value, words in scale.ticks(4 if layout.stacked else 6):
        x = scale(value)
        drawn += [
            svg.line(x, TOP - 4, x, floor, "grid"),
            svg.text(words, x, floor + 16, "tick", "middle"),
        ]
    if frame.zero is not None:
        x = scale(frame.zero)
        drawn.append(svg.line(x, TOP - 4, x, floor, "zero"))
    middle = (scale.start + scale.end) / 2
    drawn.append(svg.text(frame.axis, middle, floor + 33, "axis", "middle"))
    return svg.group(*drawn, aria_hidden="true")


def _row(row: Dots, scale: Scale, layout: Layout, y: float) -> Markup:
    at = y - 12 if layout.stacked else y + 1
    drawn = [
        svg.element(
            "rect", x=0, y=y - layout.row / 2, width=layout.width, height=layout.row, class_="band"
        ),
        svg.text(shorten(row.label, layout.letters), 8, at, f"label {row.role}"),
        svg.text(row.said, layout.width - 8.0, at, "label", "end"),
    ]
    y += 9 if layout.stacked else 0
    drawn += [_dot(seed, value, scale, y + 9, row.role) for seed, value in row.values.items()]
    if (e := row.estimate) is not None:
        if e.low is not None and e.high is not None:
            drawn.append(
                svg.line(scale(e.low), y - 3, scale(e.high), y - 3, f"interval {row.role}")
            )
        shape = SHAPES.get(row.role, "circle")
        drawn.append(svg.marker(shape, scale(e.mean), y - 3, f"mean {row.role}"))
    return svg.point(row.described, *drawn)


def _dot(seed: int, value: float, scale: Scale, y: float, role: str) -> Markup:
    inside = scale.low <= value <= scale.high
    return svg.element(
        "circle",
        svg.element("title", f"seed {seed}: {value:.4g}"),
        cx=scale(value),
        cy=y,
        r=2.4,
        class_=f"seed {role}" + ("" if inside else " outside"),
    )
