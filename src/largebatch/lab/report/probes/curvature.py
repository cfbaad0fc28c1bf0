"""How different are the layers' curvatures? CURV, Fig. 2."""

from collections.abc import Sequence

from ..parts import Panel, Table
from ..read import Record
from ..scales import short
from .fields import finite, numbers
from .figure import Shown, kept, key, run_keys, source_rows, told
from .layers import Layer, Line, Spans
from .plot import limits, numbered, plot
from .runs import Probed
from .tables import padded_table
from .training import here

PROBE = "curvature_radius"


def curvature(runs: Sequence[Probed]) -> Shown | None:
    """Mean radius of every layer with its spread, at the first and at the last row.

    Example:
        >>> curvature([]) is None
        True
    """
    seen = [run for run in runs if run.of(PROBE)]
    panels = kept([_panel(seen, 0, "first"), *_last(seen)])
    if not panels:
        return None
    return Shown(
        "curvature",
        "Radius of curvature across the layers",
        _says(seen),
        "Form of Gao and Zhong (CURV), Fig. 2: there AlexNet on CIFAR-10, the radius of biases "
        f"drawn ten times as large; {here(seen)}, biases as they are, on a logarithmic scale. Bars "
        "reach one standard deviation over the layer’s weights to both sides, down to the floor "
        "where that is more than the mean; the small mark is the layer’s median.",
        panels,
        _table(seen),
        source_rows(seen, PROBE),
        [*run_keys(seen), key("bar: standard deviation", "r0"), key("median", "theory", "down")],
    )


def _last(runs: Sequence[Probed]) -> list[Panel | None]:
    return [_panel(runs, -1, "last")] if any(len(run.of(PROBE)) > 1 for run in runs) else []


def _panel(runs: Sequence[Probed], which: int, word: str) -> Panel | None:
    if not runs:
        return None
    names = [str(n) for n in runs[0].of(PROBE)[which].get("layers", [])]
    drawn: list[Layer] = []
    means: list[Layer] = []
    for run in runs:
        row = run.of(PROBE)[which]
        shift = 0.5 * (run.index - (len(runs) - 1) / 2) / max(len(runs), 2)
        spans, medians = _spans(row, shift, names)
        middle = [Line(f"{run.label}, median", [point], "theory", "down") for point in medians]
        drawn += [Spans(run.label, spans, run.style, run.shape), *middle]
        means.append(Line("", [(x, v) for x, v, _, _ in spans], ""))
        means += middle
    shown = limits(means, log=True)
    return (
        plot(f"radius of curvature, {word} row", numbered("layer", names), drawn, shown)
        if names
        else None
    )


def _spans(
    row: Record, shift: float, names: Sequence[str]
) -> tuple[list[tuple[float, float, float, float]], list[tuple[float, float | None]]]:
    """Mean with its spread, and median, of the layers; another run's may be others."""
    place = {name: k for k, name in enumerate(names)}
    spans, medians = [], []
    columns = [numbers(row.get(f)) for f in ("mean_radius", "spread", "median")]
    columns = [c or [None] * len(names) for c in columns]
    for name, radius, spread, median in zip(row.get("layers", []), *columns, strict=False):
        at = place.get(str(name))
        if at is None:
            continue
        if radius is not None and radius > 0:
            wide = spread or 0.0
            spans.append((at + shift, radius, max(radius - wide, 1e-300), radius + wide))
        if median is not None and median > 0:
            medians.append((at + shift, median))
    return spans, medians


def _says(runs: Sequence[Probed]) -> str:
    said = []
    for run in runs:
        known = [v for v in finite(numbers(run.of(PROBE)[-1].get("mean_radius"))) if v > 0]
        if known:
            said.append(f"{run.label}: {short(max(known) / min(known))}")
    if not said:
        return "No row holds a radius above zero."
    return f"Largest over smallest mean radius among the layers, last row: {told(said)}."


def _table(runs: Sequence[Probed]) -> Table:
    rows = []
    for run in runs:
        row = run.of(PROBE)[-1]
        columns = [numbers(row.get(f)) for f in ("mean_radius", "spread", "median")]
        for k, name in enumerate(row.get("layers", [])):
            values = [short(c[k]) if k < len(c) else short(None) for c in columns]
            rows.append([run.label, f"{k + 1}: {name}", *values])
    return padded_table(["run", "layer", "mean, last row", "standard deviation", "median"], rows)
