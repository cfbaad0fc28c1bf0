"""The dot plot of final results: a row per method with its mean, 95% interval and every seed."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from largebatch.lab.report import svg
from largebatch.lab.report.curves import focus
from largebatch.lab.report.finding import diverged
from largebatch.lab.report.marks import describe, role, shape, shorten
from largebatch.lab.report.metric import Metric, count
from largebatch.lab.report.row import Row, Section
from largebatch.lab.report.scales import Scale, padded

TOP, BOTTOM = 44, 44


@dataclass(frozen=True)
class Layout:
    """Sizes in pixels; a narrow picture has its labels above the rows instead of beside them.

    Example:
        >>> Layout.of(760).stacked, Layout.of(340).stacked
        (False, True)
    """

    width: int
    left: int
    right: int
    row: int
    stacked: bool
    letters: int

    @classmethod
    def of(cls, width: int) -> "Layout":
        """The layout for a width.

        Example:
            >>> Layout.of(340).left
            10
        """
        if width < 500:
            return cls(width, 10, 10, 50, True, 26)
        return cls(width, 176, 112, 36, False, 22)


def dot_plot(section: Section, metric: Metric, width: int) -> Markup:
    """Final values at one large batch size beside the reference's.

    Example:
        >>> row = Row("msgd", 1024, "baseline", (), {0: 80.0, 1: 81.0})
        >>> plot = dot_plot(Section(1024, None, row, ()), Metric("accuracy_percent", True, 1), 760)
        >>> "msgd, batch 1,024: mean 80.5%" in plot
        True
    """
    drawn, height = dot_plot_parts(section, metric, width)
    name = f"Final test {metric.label} by method at batch {count(section.batch_size)}"
    return svg.picture(width, height, name, drawn, class_="wide" if width >= 500 else "narrow")


def dot_plot_parts(section: Section, metric: Metric, width: int) -> tuple[Markup, float]:
    """What the plot is made of, without the svg element around it, and its height.

    Example:
        >>> dot_plot_parts(Section(9, None, None, ()), Metric("mse", False, 1), 760)[1]
        88.0
    """
    layout, rows = Layout.of(width), section.all_rows
    height = float(TOP + BOTTOM + layout.row * len(rows))
    low, high = metric.limits(*padded(focus(v for row in rows for v in row.finished), 0.08))
    scale = Scale(low, high, layout.left, width - layout.right)
    parts = [_axis(scale, metric, layout, height), _guides(section, scale, metric, height)]
    parts += [
        _row(row, scale, metric, layout, TOP + layout.row * (index + 0.5))
        for index, row in enumerate(rows)
    ]
    return Markup("").join(parts), height


def _axis(scale: Scale, metric: Metric, layout: Layout, height: float) -> Markup:
    floor = height - BOTTOM + 6
    parts = []
    for value, words in scale.ticks(4 if layout.stacked else 6):
        x = scale(value)
        parts += [
            svg.line(x, TOP - 6, x, floor, "grid"),
            svg.text(words, x, floor + 16, "tick", "middle"),
        ]
    middle = (scale.start + scale.end) / 2
    parts.append(svg.text(f"final test {metric.axis}", middle, floor + 33, "axis", "middle"))
    return svg.group(*parts, aria_hidden="true")


def _guides(section: Section, scale: Scale, metric: Metric, height: float) -> Markup:
    """Vertical lines at the two means everything is read against, their labels on two lines."""
    parts = []
    for index, row in enumerate((section.reference, section.baseline)):
        if row is None or row.estimate is None:
            continue
        x = scale(row.estimate.mean)
        left = x < (scale.start + scale.end) / 2
        words = f"{row.method} at batch {count(row.batch_size)}"
        y = 12 + 15 * index
        parts.append(svg.line(x, y - 9, x, height - BOTTOM + 6, f"guide {row.role}"))
        parts.append(
            svg.text(words, x + (5 if left else -5), y, row.role, "start" if left else "end")
        )
    return svg.group(*parts, aria_hidden="true")


def _row(row: Row, scale: Scale, metric: Metric, layout: Layout, y: float) -> Markup:
    drawn = _labels(row, scale, metric, layout, y)
    y += 9 if layout.stacked else 0
    top = y - layout.row / 2 - (9 if layout.stacked else 0)
    band = svg.element("rect", x=0, y=top, width=layout.width, height=layout.row, class_="band")
    drawn.insert(0, band)
    e, name = row.estimate, role(row)
    if e is not None:
        drawn += _seeds(row, scale, metric, y + 9)
        if e.low is not None and e.high is not None:
            drawn.append(svg.line(scale(e.low), y - 3, scale(e.high), y - 3, f"interval {name}"))
        drawn.append(
            svg.marker(shape(row, e.mean, scale, "left"), scale(e.mean), y - 3, f"mean {name}")
        )
    return svg.point(describe(row, metric), *drawn)


def _labels(row: Row, scale: Scale, metric: Metric, layout: Layout, y: float) -> list[Markup]:
    """The method's name and its value, beside the row or above it."""
    at = y - 12 if layout.stacked else y + 1
    notes = [n for n in (diverged(row).replace(" seeds", ""), _outside(row, scale)) if n]
    name = shorten(row.method, 15 if notes and layout.stacked else layout.letters)
    if row.role == "reference":
        name += f" · batch {count(row.batch_size)}"
    labels: list[Markup] = [svg.text(name, 8, at, f"label {role(row)}")]
    e, x = row.estimate, layout.width - 8.0
    if e is None:
        return [*labels, svg.text(diverged(row) or "no result yet", x, at, "note", "end")]
    spread = f" ± {metric.plain(e.sd)}" if e.sd is not None else ""
    said = metric.value(e.mean) + spread
    if layout.stacked:
        said = " · ".join([said, *notes])
    labels.append(svg.text(said, x, at, "label", "end"))
    if row.best_on_validation and not notes:
        notes = ["best on validation"]
    if notes and not layout.stacked:
        labels.append(svg.text(notes[0], x, at + 13, "note", "end"))
    return labels


def _outside(row: Row, scale: Scale) -> str:
    """Says that seeds lie beyond the scale, where they are drawn at its edge."""
    outside = sum(1 for v in row.finished if not scale.low <= v <= scale.high)
    if outside == len(row.finished):
        return "off the scale" if outside else ""
    return f"{outside} off the scale" if outside else ""


def _seeds(row: Row, scale: Scale, metric: Metric, y: float) -> Sequence[Markup]:
    seeds = ((s, v) for s, v in sorted(row.values.items()) if v is not None)
    return [
        svg.element(
            "circle",
            svg.element("title", f"seed {seed}: {metric.value(value)}"),
            cx=scale(value),
            cy=y,
            r=2.4,
            class_=f"seed {role(row)}" + ("" if scale.low <= value <= scale.high else " outside"),
        )
        for seed, value in seeds
    ]
