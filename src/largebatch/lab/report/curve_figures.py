"""Figures of the training itself: loss over epochs, the metric over epochs and over updates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from largebatch.lab.report.curves import (
    Curve,
    Pairs,
    evaluations,
    focus,
    mean_curve,
    stopped_at,
    thin,
    train_loss,
)
from largebatch.lab.report.marks import role
from largebatch.lab.report.metric import Metric, brief
from largebatch.lab.report.panels import Axes, Line, panel
from largebatch.lab.report.parts import Figure, Panel, Table
from largebatch.lab.report.read import Run
from largebatch.lab.report.row import Row, Section
from largebatch.lab.report.scales import padded, tick_text

TABLE_COLUMNS = 6


def curve_figures(section: Section, metric: Metric) -> list[Figure]:
    """The three figures of one large batch size; those without any record are left out.

    Example:
        >>> curve_figures(Section(9, None, None, ()), Metric("mse", False, 2))
        []
    """
    found = [
        _loss(section),
        _metric(section, metric, "epoch", "epochs"),
        _metric(section, metric, "step", "updates"),
    ]
    return [figure for figure in found if figure is not None]


@dataclass(frozen=True)
class _Kind:
    """What the panels of one figure have in common."""

    heading: str
    words: str
    x: str
    unit: str
    y_name: str
    limits: tuple[float, float]
    log_y: bool = False
    metric: Metric | None = None


def _loss(section: Section) -> Figure | None:
    curves = _curves(section, train_loss)
    values = [p.mean for curve in curves for p in curve if p.mean > 0]
    if not values:
        return None
    # a run on its way out must not squeeze the others: the top is 3 times the median first epoch
    first = sorted(curve[0].mean for curve in curves if curve)
    top = min(max(values), 3 * max(first[len(first) // 2], min(values))) * 1.2
    low = max(min(values) * 0.8, top * 1e-6)
    words = (
        "Mean over seeds of the loss on the training batches, averaged over each epoch; the shaded "
        "band is the range of the seeds. The scale of the loss is logarithmic."
    )
    heading = "Training loss over epochs"
    return _figure(
        _Kind(heading, words, "epoch", "epochs", "loss", (low, top), True), section, curves
    )


def _metric(section: Section, metric: Metric, x: str, unit: str) -> Figure | None:
    curves = _curves(section, evaluations(metric.name, x))
    late = [p.mean for curve in curves for p in curve[len(curve) // 4 :]]
    if not late:
        return None
    low, high = metric.limits(*padded(focus(late, reach=12), 0.1))
    words = (
        "Mean over seeds on the test data, with the range of the seeds. The scale goes from "
        f"{metric.value(low)} to {metric.value(high)}, to show differences late in training: "
        "what lies outside is cut off."
    )
    if x == "step":
        words += " The scale of updates is logarithmic: at a large batch an epoch has few of them."
    heading = f"Test {metric.label} over {unit}"
    kind = _Kind(heading, words, x, unit, metric.axis, (low, high), metric=metric)
    return _figure(kind, section, curves)


def _curves(section: Section, read: Callable[[Run], Pairs]) -> list[Curve]:
    return [mean_curve(row.runs, read) for row in section.all_rows]


def _figure(kind: _Kind, section: Section, curves: Sequence[Curve]) -> Figure:
    rows = list(zip(section.all_rows, curves, strict=True))
    behind = [
        Line("reference" if row is section.reference else "baseline-behind", row.method, curve)
        for row, curve in rows
        if row is section.reference or row is section.baseline
    ]
    drawn = (
        _panel(kind, row, curve, behind) for row, curve in rows if row is not section.reference
    )
    panels = [panel for panel in drawn if panel is not None]
    return Figure(kind.heading, kind.words, panels, _table(rows, kind))


def _panel(kind: _Kind, row: Row, curve: Curve, behind: Sequence[Line]) -> Panel | None:
    stops = [at for run in row.runs if (at := stopped_at(run, kind.x)) is not None]
    if not (curve or stops):
        return None
    others = [line for line in behind if line.curve is not curve]
    log_x = kind.x == "step"
    span = _span([curve, *(other.curve for other in others)], stops, log_x)
    axes = Axes(kind.unit, span, kind.y_name, kind.limits, log_x, kind.log_y)
    lines = [*others, Line(role(row), row.method, curve)]
    note = f"{len(stops)} diverged, marked ×" if stops else ""
    name = f"{kind.heading}: {row.method}"
    return Panel(row.method, note, panel(name, axes, lines, stops, kind.metric))


def _span(curves: Sequence[Curve], stops: Sequence[float], log: bool) -> tuple[float, float]:
    seen = [p.x for curve in curves for p in curve] + list(stops)
    high = max(seen, default=1.0)
    low = max(min(seen, default=1.0), 1.0) if log else 0.0
    return low, max(high, low + 1)


def _table(rows: Sequence[tuple[Row, Curve]], kind: _Kind) -> Table:
    """A few places of every curve: at which epoch or update, and the mean there."""
    write = kind.metric.value if kind.metric else brief
    cells = [
        [f"{row.method}, batch {row.batch_size:,}"]
        + [f"{tick_text(p.x)}: {write(p.mean)}" for p in thin(curve, TABLE_COLUMNS)]
        for row, curve in rows
        if curve
    ]
    widest = max((len(c) for c in cells), default=1)
    head = ["run", f"{kind.unit}: mean over seeds", *[""] * (widest - 2)][:widest]
    return Table(head, [[*c, *[""] * (widest - len(c))] for c in cells])
