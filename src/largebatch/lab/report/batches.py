"""Accuracy against batch size: what each method keeps as the batch grows."""

from collections import defaultdict
from collections.abc import Sequence

from markupsafe import Markup

from largebatch.lab.report import svg
from largebatch.lab.report.curves import focus
from largebatch.lab.report.finding import diverged
from largebatch.lab.report.marks import describe, role, shape, shorten
from largebatch.lab.report.metric import Metric, count
from largebatch.lab.report.parts import Figure, Panel, Table
from largebatch.lab.report.row import BASELINE, Row, Section
from largebatch.lab.report.scales import Scale, padded

GAP = 15


def batch_figure(sections: Sequence[Section], metric: Metric) -> Figure | None:
    """Final test values of every method over all batch sizes; None while there are none.

    Example:
        >>> batch_figure([], Metric("mse", False, 2)) is None
        True
    """
    lines = _lines(sections)
    rows = [row for line in lines.values() for row in line]
    if not any(row.finished for row in rows):
        return None
    panels = [Panel("", "", _chart(lines, metric, width)) for width in (760, 340)]
    words = (
        "Mean over the seeds that finished, with its 95% interval for the reference, for momentum "
        "SGD and for what was best on validation; a cross on the floor for a method of which seeds "
        "diverged at this batch size. The scale does not start at zero."
    )
    table = Table(
        ("method", "batch size", f"test {metric.label}", "seeds"),
        [_cells(row, metric) for row in sorted(rows, key=lambda r: (r.method, r.batch_size))],
    )
    return Figure(f"Test {metric.label} against batch size", words, panels, table, legend=False)


def spread_out(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions as near to the wanted ones as a gap between neighbours and the two limits allow.

    Example:
        >>> spread_out([50.0, 52.0, 10.0], 15.0, 0.0, 100.0)
        [50.0, 65.0, 10.0]
        >>> spread_out([98.0, 99.0], 15.0, 0.0, 100.0)
        [85.0, 100.0]
    """
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    placed: list[float] = []
    for index in order:
        placed.append(max(wanted[index], placed[-1] + gap if placed else low))
    limit = high
    for k in range(len(placed) - 1, -1, -1):
        placed[k] = min(placed[k], limit)
        limit = placed[k] - gap
    return [placed[order.index(i)] for i in range(len(wanted))]


def _lines(sections: Sequence[Section]) -> dict[str, list[Row]]:
    """Rows by method; the reference is where momentum SGD's line starts."""
    found: dict[tuple[str, int], Row] = {}
    for section in sections:
        for row in section.all_rows:
            found[row.method, row.batch_size] = row
    lines: dict[str, list[Row]] = defaultdict(list)
    for (method, _), row in sorted(found.items(), key=lambda item: item[0][1]):
        lines[method].append(row)
    return lines


def _chart(lines: dict[str, list[Row]], metric: Metric, width: int) -> Markup:
    height, left = max(340, GAP * len(lines) + 90), 48
    right = 210 if width > 500 else 136
    rows = [row for line in lines.values() for row in line]
    sizes = sorted({row.batch_size for row in rows})
    limits = metric.limits(*padded(focus(e.mean for row in rows if (e := row.estimate)), 0.1))
    y = Scale(*limits, height - 46, 30)
    x = Scale(sizes[0] / 1.15, max(sizes[-1] * 1.05, sizes[0] * 1.2), left, width - right, log=True)
    drawn = [_frame(sizes, x, y, metric, height, width - right)]
    # what is named in the headline is drawn last, in front
    order = sorted(
        lines, key=lambda m: (m == BASELINE, any(r.best_on_validation for r in lines[m]))
    )
    drawn += [_line(lines[method], x, y, metric) for method in order]
    drawn += _crosses(rows, x, metric, height - 54)
    drawn.append(_labels(lines, x, y, 24 if width > 500 else 14, height - 46))
    name = f"Test {metric.label} against batch size"
    return svg.picture(width, height, name, *drawn, class_="wide" if width > 500 else "narrow")


def _frame(
    sizes: Sequence[int], x: Scale, y: Scale, metric: Metric, height: float, right: float
) -> Markup:
    floor = height - 46
    parts = []
    for value, words in y.ticks(6):
        parts.append(svg.line(x.start, y(value), right, y(value), "grid"))
        parts.append(svg.text(words, x.start - 7, y(value) + 4, "tick", "end"))
    for size in sizes:
        parts.append(svg.text(count(size), x(size), floor + 18, "tick", "middle"))
    parts.append(svg.line(x.start, floor, right, floor, "floor"))
    middle = (x.start + right) / 2
    parts.append(svg.text(f"final test {metric.axis}", 4, 14, "axis"))
    parts.append(svg.text("batch size", middle, height - 8, "axis", "middle"))
    return svg.group(*parts, aria_hidden="true")


def _line(rows: Sequence[Row], x: Scale, y: Scale, metric: Metric) -> Markup:
    shown = [(row, e) for row in rows if (e := row.estimate) is not None]
    name = _role(rows)
    drawn = [svg.path([(x(r.batch_size), y(e.mean)) for r, e in shown], f"line thin {name}")]
    for row, e in shown:
        at = x(row.batch_size)
        spot = [svg.marker(shape(row, e.mean, y, "down"), at, y(e.mean), f"mean {role(row)}")]
        if e.low is not None and e.high is not None and name in ("baseline", "best"):
            spot.insert(0, svg.line(at, y(e.low), at, y(e.high), f"interval {role(row)}"))
        drawn.append(svg.point(describe(row, metric), *spot))
    return svg.group(*drawn)


def _crosses(rows: Sequence[Row], x: Scale, metric: Metric, floor: float) -> list[Markup]:
    """A cross for every row with seeds that diverged, piled up above its batch size."""
    piled: dict[int, int] = defaultdict(int)
    drawn = []
    for row in rows:
        if row.diverged:
            at = floor - 12 * piled[row.batch_size]
            piled[row.batch_size] += 1
            cross = svg.marker("cross", x(row.batch_size), at, "diverged", 0.8)
            drawn.append(svg.point(describe(row, metric), cross))
    return drawn


def _role(rows: Sequence[Row]) -> str:
    return "best" if any(role(r) == "best" for r in rows) else role(rows[-1])


def _labels(lines: dict[str, list[Row]], x: Scale, y: Scale, letters: int, floor: float) -> Markup:
    """A label right of each line's last point, moved apart where they would overlap."""
    ends = {m: [r for r in rows if r.estimate] for m, rows in lines.items()}
    last = {m: rows[-1] for m, rows in ends.items() if rows}
    wanted = [y(e.mean) for row in last.values() if (e := row.estimate)]
    parts = []
    for (method, row), at, placed in zip(
        last.items(), wanted, spread_out(wanted, GAP, 14, floor), strict=True
    ):
        start = x(row.batch_size) + 8
        parts.append(svg.path([(start, at), (x.end + 14, placed)], "leader"))
        parts.append(
            svg.text(shorten(method, letters), x.end + 18, placed + 4, f"label {role(row)}")
        )
    return svg.group(*parts, aria_hidden="true")


def _cells(row: Row, metric: Metric) -> list[str]:
    e = row.estimate
    said = (
        "–"
        if e is None
        else metric.value(e.mean) + (f" ± {metric.plain(e.sd)}" if e.sd is not None else "")
    )
    return [row.method, count(row.batch_size), said, diverged(row) or str(len(row.finished))]
