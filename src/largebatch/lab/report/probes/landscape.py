"""The loss around the weights, along a line and on a plane of filter-normalized directions."""

from collections.abc import Sequence

from ..parts import Panel, Table
from ..scales import short, tick_text
from .fields import Points, finite, numbers, table_of
from .figure import Shown, kept, run_keys, source_rows, told
from .heat import heat, scale_key
from .layers import Line
from .plot import Across, plot
from .runs import Probed
from .tables import of_lines, padded_table
from .training import here

LINE, PLANE = "loss_line", "loss_plane"
ALONG = Across("place on the line, 0: the weights", lambda x: f"at {tick_text(round(x, 4))}")
FORM = (
    "No figure of the documents; Li et al. (2018) have the form, whose filter-normalized "
    "directions let nets with other norms be compared"
)


def loss_line(runs: Sequence[Probed]) -> Shown | None:
    """The loss along a line, at each run's first and last row.

    Example:
        >>> loss_line([]) is None
        True
    """
    seen = [run for run in runs if run.of(LINE)]
    lines = [Line(r.label, _line(r, -1), r.style, r.shape) for r in seen]
    first = [Line(r.label, _line(r, 0), r.style, r.shape) for r in seen if len(r.of(LINE)) > 1]
    panels = kept([plot("loss, first row", ALONG, first), plot("loss, last row", ALONG, lines)])
    if not panels:
        return None
    return Shown(
        "loss-line",
        "The loss along a line",
        _says(lines),
        f"{FORM}; {here(seen)}.",
        panels,
        of_lines(lines, "loss, last row", ALONG),
        source_rows(seen, LINE),
        run_keys(seen),
    )


def loss_plane(runs: Sequence[Probed]) -> Shown | None:
    """The loss on a plane, at each run's last row.

    Example:
        >>> loss_plane([]) is None
        True
    """
    seen = [run for run in runs if run.of(PLANE)]
    panels: list[Panel | None] = []
    rows = []
    for run in seen:
        row = run.of(PLANE)[-1]
        a, b = numbers(row.get("positions_a")), numbers(row.get("positions_b"))
        values = table_of(row, "losses")
        panels.append(heat(f"loss, last row: {run.label}", a, b, values))
        known = finite(v for each in values for v in each)
        if known:
            rows.append([run.label, short(min(known)), short(max(known)), str(len(known))])
    charts = kept(panels)
    if not charts:
        return None
    lowest = told([f"{run}: {low} to {high}" for run, low, high, _ in rows])
    table: Table = padded_table(["run", "lowest loss", "highest loss", "places"], rows)
    return Shown(
        "loss-plane",
        "The loss on a plane",
        f"Lowest and highest loss on the plane, last row: {lowest}.",
        f"{FORM}; {here(seen)}. Nine steps of darkness, equal on a logarithmic scale; the cross "
        "is where the weights are, the circle the lowest place, the triangle the highest.",
        charts,
        table,
        source_rows(seen, PLANE),
        [scale_key()],
    )


def _line(run: Probed, which: int) -> Points:
    row = run.of(LINE)[which]
    pairs = zip(numbers(row.get("positions")), numbers(row.get("losses")), strict=False)
    return sorted(((x, y) for x, y in pairs if x is not None), key=lambda p: p[0])


def _says(lines: Sequence[Line]) -> str:
    said = []
    for line in lines:
        known = [(x, y) for x, y in line.points if y is not None]
        if known:
            centre = min(known, key=lambda p: abs(p[0]))[1]
            edge = max(known[0][1], known[-1][1])
            said.append(f"{line.label}: {short(centre)} at the weights, {short(edge)} at an edge")
    return f"Last row: {told(said)}." if said else "No row holds a loss."
