"""How smooth is the loss along the gradient? GNC, Fig. 5 and 9, App. A.6."""

from collections.abc import Sequence

from ..parts import Panel
from ..read import Record, number
from .fields import Points, finite, median, numbers, part, points
from .figure import Shown, beside, kept, key, run_keys, source_rows
from .layers import Band, Line
from .plot import EPOCHS, limits, plot
from .runs import Probed
from .tables import of_lines
from .training import drops, here

PROBE = "smoothness"
TOGETHER = 2
BANDS = (
    ("loss", "losses", "loss_range"),
    ("change of the gradient", "gradient_distances", "gradient_range"),
)
OWN, CONVOLVED = "", ", convolved"


def smoothness(runs: Sequence[Probed]) -> Shown | None:
    """Range of loss and of gradient change as bands, the largest ratio as a line; on both losses.

    Example:
        >>> smoothness([]) is None
        True
    """
    seen = [run for run in runs if run.of(PROBE)]
    plain = {run.label: run.of(PROBE) for run in seen}
    convolved = {run.label: part(run.of(PROBE), "convolved") for run in seen}
    both = ((plain, OWN), (convolved, CONVOLVED))
    panels = kept(panel for rows, where in both for panel in _panels(seen, rows, where))
    each = [panel for rows, where in both for panel in _alone(seen, rows, where)]
    more = kept(each) if len(seen) > TOGETHER else []
    if not panels:
        return None
    lines = _lines(seen, plain)
    over = [Line(f"{o.label}{CONVOLVED}", o.points, o.style) for o in _lines(seen, convolved)]
    return Shown(
        "smoothness",
        "How smooth the loss is along the gradient",
        _says(lines, over),
        "Form of Haruki et al. (GNC), Fig. 5 and 9: eight steps from half to twice the learning "
        "rate along the gradient; there ResNet-32 on CIFAR-100 at batch 8,192, "
        f"{here(seen)}. The document measures GNC on the convolved loss and the baseline on the "
        f"plain one; here each is measured on both. {_noise(seen)}",
        panels,
        of_lines([*lines, *over], "largest ratio"),
        source_rows(seen, PROBE),
        [*run_keys(seen), key("range over the eight steps", "r0", kind="spread")],
        leads=True,
        more=more,
    )


def _panels(
    runs: Sequence[Probed], rows: dict[str, list[Record]], where: str
) -> list[Panel | None]:
    """Bands of up to two runs over each other; of more, which would be mud, how wide they are."""
    marks = drops(runs)
    found = []
    for what, *fields in BANDS:
        bands = [_band(r, rows[r.label], *fields) for r in runs]
        if len(runs) > TOGETHER:
            widths = [
                Line(b.label, _width(b), r.style, r.shape) for b, r in zip(bands, runs, strict=True)
            ]
            found.append(plot(f"range of the {what}{where}", EPOCHS, [*marks, *widths]))
        else:
            found.append(plot(f"{what}{where}", EPOCHS, [*marks, *bands]))
    ratio = plot(f"largest ‖Δg‖/‖Δw‖{where}", EPOCHS, [*marks, *_lines(runs, rows)])
    return [*found, ratio]


def _alone(runs: Sequence[Probed], rows: dict[str, list[Record]], where: str) -> list[Panel | None]:
    """Each run's bands in charts of their own, on one scale."""
    found = []
    for what, *fields in BANDS:
        bands = [_band(r, rows[r.label], *fields) for r in runs]
        shown = limits(bands)
        found += [plot(f"{what}{where}: {b.label}", EPOCHS, [b], shown) for b in bands]
    return found


def _width(band: Band) -> Points:
    return [(x, high - low) for x, low, high in band.points]


def _lines(runs: Sequence[Probed], rows: dict[str, list[Record]]) -> list[Line]:
    return [Line(r.label, points(rows[r.label], "largest_ratio"), r.style, r.shape) for r in runs]


def _band(run: Probed, rows: Sequence[Record], values: str, ends: str) -> Band:
    """Lowest to highest of the eight values; of a row that holds only their two ends, those."""
    band = []
    for row in rows:
        at = number(row.get("epoch"))
        known = finite(numbers(row.get(values))) or finite(numbers(row.get(ends)))
        if at is not None and known:
            band.append((at, min(known), max(known)))
    return Band(run.label, band, run.style)


def _says(lines: Sequence[Line], over: Sequence[Line]) -> str:
    said = f"Largest ratio of gradient change to step, middle of the rows: {_middle(lines)}"
    if any(line.ys() for line in over):
        said += f"; on the convolved loss: {_middle(over)}"
    return f"{said}. A smaller one is a smoother loss."


def _noise(runs: Sequence[Probed]) -> str:
    """With whose noise each run's loss was convolved."""
    own, other = (
        [r.label for r in runs if any(row.get("offsets") == kind for row in r.of(PROBE))]
        for kind in ("method", "gradient noise")
    )
    said = "The convolved loss is that where workers look"
    said += f", with the method's own noise ({', '.join(own)})" if own else ""
    if other:
        said += (
            f"{';' if own else ','} for a method without noise where GNC's would, of alpha 1 "
            f"({', '.join(other)})"
        )
    return f"{said}."


def _middle(lines: Sequence[Line]) -> str:
    found: dict[str, Points] = {line.label.removesuffix(CONVOLVED): line.points for line in lines}
    return beside({name: median(y for _, y in values) for name, values in found.items()})
