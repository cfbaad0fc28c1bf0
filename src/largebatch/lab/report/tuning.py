"""Sensitivity: the validation value of every trial against its learning rate, by method."""

import math
from collections import defaultdict
from collections.abc import Sequence

from markupsafe import Markup

from largebatch.lab.report import svg
from largebatch.lab.report.curves import focus
from largebatch.lab.report.marks import role
from largebatch.lab.report.metric import Metric, brief
from largebatch.lab.report.panels import BOTTOM as FLOOR
from largebatch.lab.report.panels import HEIGHT, WIDTH, Axes, frame
from largebatch.lab.report.parts import Figure, Panel, Table
from largebatch.lab.report.read import Comparison, Run, number
from largebatch.lab.report.row import Row, Section
from largebatch.lab.report.scales import Scale, padded

SHAPES = ("circle", "square", "triangle", "diamond", "down", "left", "right")
SIGNS = ("\N{BLACK CIRCLE}", "■", "▲", "\N{BLACK DIAMOND}", "▼", "◀", "▶")
Trials = dict[
    float | None, dict[float, list[float | None]]
]  # alpha -> lr -> values, None: diverged


def tuning_figure(comparison: Comparison, section: Section, metric: Metric) -> Figure | None:
    """All methods' trials at one large batch size, on one scale; None if there is no trial.

    Example:
        >>> asked = Comparison({"task": "digits", "small_batch": 64}, (), (), ())
        >>> tuning_figure(asked, Section(9, None, None, ()), Metric("mse", False, 2)) is None
        True
    """
    trials = {id(row): _trials(row, comparison.tuning) for row in section.all_rows}
    rows = [row for row in section.all_rows if trials[id(row)]]
    values = [v for row in rows for v in _values(trials[id(row)]) if v is not None]
    if not rows:
        return None
    # the rates that matter are the good ones: collapsed trials would flatten them on the scale
    better = sorted(values, key=lambda v: -metric.sign * v)[: max(math.ceil(0.6 * len(values)), 2)]
    limits = metric.limits(*padded(focus(better, reach=12), 0.1))
    panels = [_panel(row, trials[id(row)], limits, metric) for row in rows]
    words = (
        f"Validation {metric.label} of every trial, the mean where a trial was repeated with "
        f"several seeds, from {metric.value(limits[0])} to {metric.value(limits[1])}; "
        "a trial worse than the scale stands at its edge, one that diverged is a cross on "
        "the floor, the choice has a ring. Where a method has a parameter of its own, "
        "each of its values has a line."
    )
    table = Table(
        ("method", "learning rate", "its own parameter", f"validation {metric.label}"),
        [cells for row in rows for cells in _cells(row, trials[id(row)], metric)],
    )
    return Figure("Sensitivity to the learning rate", words, panels, table, legend=False)


def _trials(row: Row, runs: Sequence[Run]) -> Trials:
    trials: Trials = defaultdict(lambda: defaultdict(list))
    for run in runs:
        lr = number(run.config.get("lr"))
        mine = (run.method, run.batch_size) == (row.method, row.batch_size)
        if mine and lr is not None and lr > 0 and run.status != "unfinished":
            trials[number(run.config.get("alpha"))][lr].append(run.value)
    return trials


def _values(trials: Trials) -> list[float | None]:
    return [_mean(values) for by_lr in trials.values() for values in by_lr.values()]


def _mean(values: Sequence[float | None]) -> float | None:
    """None where any seed diverged: what the others reached does not stand for such a trial."""
    known = [v for v in values if v is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) and known else None


def _panel(row: Row, trials: Trials, limits: tuple[float, float], metric: Metric) -> Panel:
    rates = sorted({lr for by_lr in trials.values() for lr in by_lr})
    span = (rates[0] / 1.3, rates[-1] * 1.3)
    axes = Axes("learning rate", span, metric.axis, limits, log_x=True)
    x, y = axes.scales
    drawn: list[Markup] = [frame(axes)]
    alphas = sorted(trials, key=lambda a: -1.0 if a is None else a)
    for index, alpha in enumerate(alphas):
        drawn += _line(row, alpha, trials[alpha], SHAPES[index % len(SHAPES)], x, y, metric)
    note = "choice at the edge of the grid" if row.at_edge else ""
    caption = row.method + (f", batch {row.batch_size:,}" if row.role == "reference" else "")
    name = f"Validation {metric.label} against learning rate: {caption}"
    return Panel(caption, note, svg.picture(WIDTH, HEIGHT, name, *drawn), _key(row, alphas))


def _line(
    row: Row,
    alpha: float | None,
    by_lr: dict[float, list[float | None]],
    shape: str,
    x: Scale,
    y: Scale,
    metric: Metric,
) -> list[Markup]:
    means = [(lr, _mean(values)) for lr, values in sorted(by_lr.items())]
    drawn = [
        svg.path([(x(lr), y(m)) for lr, m in means if m is not None], f"line thin {role(row)}")
    ]
    for lr, mean in means:
        words = f"{row.method}, rate {brief(lr)}" + (
            f", {row.parameter} {brief(alpha)}" if alpha is not None else ""
        )
        if mean is None:
            bad = sum(1 for v in by_lr[lr] if v is None)
            words += f": {bad} of {len(by_lr[lr])} diverged"
            drawn.append(
                svg.point(words, svg.marker("cross", x(lr), HEIGHT - FLOOR - 6, "diverged", 0.8))
            )
            continue
        spot = [svg.marker(shape, x(lr), y(mean), f"trial {role(row)}", 0.8)]
        if _chosen(row, lr, alpha):
            words += " (chosen)"
            spot.insert(
                0, svg.element("circle", cx=x(lr), cy=y(mean), r=8, class_=f"ring {role(row)}")
            )
        drawn.append(svg.point(f"{words}: {metric.value(mean)}", *spot))
    return drawn


def _chosen(row: Row, lr: float, alpha: float | None) -> bool:
    chosen = (number(row.choice.get("lr")), number(row.choice.get("alpha")))
    return chosen[0] == lr and (alpha is None or chosen[1] == alpha)


def _key(row: Row, alphas: Sequence[float | None]) -> str:
    """Which marker is which value of the method's own parameter, where there is more than one."""
    if len(alphas) < 2:
        return ""
    signs = (SIGNS[index % len(SIGNS)] for index in range(len(alphas)))
    return f"{row.parameter} " + "  ".join(
        f"{s} {brief(a)}" for s, a in zip(signs, alphas, strict=True)
    )


def _cells(row: Row, trials: Trials, metric: Metric) -> list[list[str]]:
    cells = []
    for alpha, by_lr in trials.items():
        for lr, values in sorted(by_lr.items()):
            mean = _mean(values)
            said = metric.value(mean) if mean is not None else "diverged"
            said += " (chosen)" if _chosen(row, lr, alpha) else ""
            own = brief(alpha) if alpha is None else f"{row.parameter} {brief(alpha)}"
            cells.append([f"{row.method}, batch {row.batch_size:,}", brief(lr), own, said])
    return cells
