"""How sharp is the loss where the run stands? Top eigenvalues (Lanczos) and trace (Hutchinson)."""

from collections.abc import Sequence

from ..parts import Panel
from ..read import number
from .fields import Points, by_layer, numbers, points
from .figure import Shown, apart, kept, key, run_keys, source_rows
from .layers import Band, Layer, Line
from .plot import EPOCHS, limits, plot
from .runs import Probed
from .tables import moved, of_lines
from .training import drops, here

PROBE = "hessian"


def hessian(runs: Sequence[Probed]) -> Shown | None:
    """The largest eigenvalue of all runs, each run's others, the trace, the layers' diagonals.

    Example:
        >>> hessian([]) is None
        True
    """
    seen = [run for run in runs if run.of(PROBE)]
    tops = [Line(r.label, _eigenvalue(r, 0), r.style, r.shape) for r in seen]
    traces = [layer for run in seen for layer in _trace(run)]
    panels = kept(
        [
            plot("largest eigenvalue", EPOCHS, [*drops(seen), *tops]),
            plot("trace, with its standard error", EPOCHS, [*drops(seen), *traces]),
        ]
    )
    each = [panel for run in seen for panel in (_spectrum(run), _diagonal(run))]
    panels, more = apart(panels, each, seen)
    if not panels and not more:
        return None
    lines = [line for line in traces if isinstance(line, Line)]
    return Shown(
        "hessian",
        "Curvature of the loss: eigenvalues and trace",
        f"Largest eigenvalue of the Hessian {moved({o.label: o.points for o in tops})}.",
        f"No figure of the documents; {here(seen)}. A larger value is a sharper loss. The band "
        "around a trace is one standard error of its estimate to both sides.",
        panels,
        of_lines([*tops, *(Line(f"{o.label}, trace", o.points, "") for o in lines)], "eigenvalue"),
        source_rows(seen, PROBE),
        [*run_keys(seen), key("one eigenvalue, or a layer", "faint r0")],
        leads=True,
        more=more,
    )


def _eigenvalue(run: Probed, k: int) -> Points:
    """The k-th largest over epochs."""
    found: Points = []
    for row in run.of(PROBE):
        at = number(row.get("epoch"))
        values = sorted((v for v in numbers(row.get("eigenvalues")) if v is not None), reverse=True)
        if at is not None:
            found.append((at, values[k] if k < len(values) else None))
    return found


def _spectrum(run: Probed) -> Panel | None:
    most = max((len(numbers(row.get("eigenvalues"))) for row in run.of(PROBE)), default=0)
    lines = [
        Line(f"eigenvalue {k + 1}", _eigenvalue(run, k), f"faint {run.style}", said=3)
        for k in range(most)
    ]
    return plot(f"the {most} eigenvalues: {run.label}", EPOCHS, lines) if most > 1 else None


def _trace(run: Probed) -> list[Layer]:
    band = []
    for row in run.of(PROBE):
        at, trace = number(row.get("epoch")), number(row.get("trace"))
        error = number(row.get("trace_error"))
        if at is not None and trace is not None and error is not None:
            band.append((at, trace - error, trace + error))
    line = Line(run.label, points(run.of(PROBE), "trace"), run.style, run.shape)
    return [Band(f"{run.label}, one standard error", band, run.style, said=3), line]


def _diagonal(run: Probed) -> Panel | None:
    found = by_layer(run.of(PROBE), "diagonal_mean_magnitude")
    lines = [Line(name, values, f"faint {run.style}", said=3) for name, values in found.items()]
    return plot(f"mean |diagonal| of each layer: {run.label}", EPOCHS, lines, limits(lines))
