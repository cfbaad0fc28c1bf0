"""How a row is marked and named wherever it is drawn: its role, its shape, its words."""

from largebatch.lab.report.finding import diverged
from largebatch.lab.report.metric import Metric, count
from largebatch.lab.report.row import Row
from largebatch.lab.report.scales import Scale

SHAPES = {
    "reference": "square",
    "baseline": "diamond",
    "best": "circle",
    "method": "circle",
    "control": "triangle",
}


def role(row: Row) -> str:
    """The role a row is drawn in: best on validation before its own.

    Example:
        >>> role(Row("sngm", 9, "method", (), {}, best_on_validation=True))
        'best'
    """
    return "best" if row.best_on_validation and row.role == "method" else row.role


def shorten(name: str, letters: int) -> str:
    """A name cut to `letters`, with an ellipsis where it was longer.

    Example:
        >>> shorten("torch.optim:NAdam", 8)
        'torch.o…'
    """
    return name if len(name) <= letters else name[: letters - 1] + "…"


def describe(row: Row, metric: Metric) -> str:
    """A row in words: what hover, focus and a screen reader say.

    Example:
        >>> row = Row("sngm", 1024, "method", (), {0: 90.0, 1: None})
        >>> describe(row, Metric("accuracy_percent", True, 1))
        'sngm, batch 1,024: mean 90.0%; seeds 90.0; 1 of 2 seeds diverged'
    """
    start = f"{row.method}, batch {count(row.batch_size)}: "
    e = row.estimate
    if e is None:
        return start + (diverged(row) or "no result yet")
    parts = [f"mean {metric.value(e.mean)}"]
    if e.sd is not None and e.low is not None and e.high is not None:
        parts[0] += f" ± {metric.plain(e.sd)}"
        parts.append(f"95% interval {metric.plain(e.low)} to {metric.plain(e.high)}")
    parts += ["seeds " + ", ".join(map(metric.plain, row.finished)), diverged(row)]
    return start + "; ".join(filter(None, parts))


def shape(row: Row, value: float, scale: Scale, beyond: str) -> str:
    """The shape of a row's mean: that of its role, or an arrow where it lies beyond the scale.

    Example:
        >>> row, scale = Row("sngm", 9, "method", (), {}), Scale(0, 10, 0, 1)
        >>> shape(row, 5.0, scale, "left"), shape(row, -5.0, scale, "left")
        ('circle', 'left')
    """
    if value < scale.low:
        return beyond
    if value > scale.high:
        return {"left": "right", "down": "up"}[beyond]
    return SHAPES[role(row)]
