"""Is a worker's gradient noise anisotropic, and how large is it? GNC, Fig. 4a.

Condition number: largest over second smallest eigenvalue of (1/M)·Omega^T·Omega, Omega centred
over the M workers. Isotropic noise of finite size has one above 1 too: it stands beside.
"""

from collections.abc import Sequence

from ..marks import shorten
from ..parts import Panel
from ..read import Record
from .fields import Points, by_layer, finite, last, median, names, numbers, table_of
from .figure import Shown, beside, kept, key, source_rows
from .layers import Band, Layer, Line
from .plot import EPOCHS, limits, plot
from .runs import Probed
from .tables import of_lines
from .training import here

GRADIENTS, OFFSETS = "noise_covariance", "offset_covariance"


def noise_shape(runs: Sequence[Probed]) -> Shown | None:
    """Of the workers' gradients: condition number of every layer, and one layer's eigenvalues.

    Example:
        >>> noise_shape([]) is None
        True
    """
    return _shape(runs, GRADIENTS, "noise-shape", "How anisotropic the workers’ noise is")


def offset_shape(runs: Sequence[Probed]) -> Shown | None:
    """The same of where the workers look, the noise of GNC and of RNC themselves.

    Example:
        >>> offset_shape([]) is None
        True
    """
    return _shape(runs, OFFSETS, "offset-shape", "How anisotropic the noise is that workers get")


def _shape(runs: Sequence[Probed], probe: str, anchor: str, title: str) -> Shown | None:
    seen = [run for run in runs if run.of(probe)]
    conditions = {run.label: _conditions(run, probe) for run in seen}
    every = [line for lines in conditions.values() for line in lines]
    shown = limits(every, log=True)
    if shown is None:
        return None
    panels = [
        plot(
            f"condition number: {run.label}",
            EPOCHS,
            [*_isotropic(run, probe), *conditions[run.label]],
            limits([*every, *(layer for r in seen for layer in _isotropic(r, probe))], log=True),
        )
        for run in seen
    ]
    layer = _selected(seen, probe)
    note = f" Eigenvalues are those of {shorten(layer, 60)}, the layer of the largest of them."
    return Shown(
        anchor,
        title,
        _says(seen, probe),
        "Form of Haruki et al. (GNC), Fig. 4a: there ResNet-32 on CIFAR-100, 256 workers; "
        f"{here(seen)}. The dashed value, which isotropic noise of the same size has, is not in "
        "the document." + (note if layer else ""),
        kept([*panels, *(_eigenvalues(run, probe, layer) for run in seen)]),
        of_lines([line for run in seen for line in _named(run, conditions)], "condition number"),
        source_rows(seen, probe),
        [key("a layer", "faint r0"), key("isotropic noise", "theory")],
        leads=True,
    )


def _conditions(run: Probed, probe: str) -> list[Line]:
    found = by_layer(run.of(probe), "condition")
    return [Line(name, values, f"faint {run.style}", said=3) for name, values in found.items()]


def _named(run: Probed, conditions: dict[str, list[Line]]) -> list[Line]:
    return [Line(f"{run.label}: {o.label}", o.points, "") for o in conditions[run.label]]


def _isotropic(run: Probed, probe: str) -> list[Layer]:
    """The middle of the layers' isotropic values as a line, their range as a band."""
    middle: Points = []
    band = []
    for row in run.of(probe):
        # Of layers that have a value: others, of a few weights, would stretch the band.
        pairs = zip(
            *(numbers(row.get(k)) for k in ("condition", "isotropic_condition")), strict=False
        )
        known = sorted(finite(null for own, null in pairs if own is not None))
        at = row.get("epoch")
        if known and isinstance(at, int | float):
            tenth = len(known) // 10
            middle.append((float(at), median(known)))
            band.append((float(at), known[tenth], known[-1 - tenth]))
    line = Line("isotropic noise, middle of the layers", middle, "theory", said=3)
    return [Band("isotropic noise, most layers", band, "fixed", said=2), line]


def _selected(runs: Sequence[Probed], probe: str) -> str:
    """The layer whose noise has the largest eigenvalue in any row."""
    best = (0.0, "")
    for run in runs:
        for row in run.of(probe):
            for layer, values in _spectra(row):
                best = max(best, (max(finite(values), default=0.0), layer))
    return best[1]


def _spectra(row: Record) -> list[tuple[str, list[float | None]]]:
    return list(zip(names(row), table_of(row, "eigenvalues"), strict=False))


def _eigenvalues(run: Probed, probe: str, layer: str) -> Panel | None:
    """A line for each percentile of one layer's eigenvalues."""
    lines: dict[str, Points] = {}
    for row in run.of(probe):
        values = dict(_spectra(row)).get(layer, [])
        at = row.get("epoch")
        for percent, value in zip(numbers(row.get("percentiles")), values, strict=False):
            if percent is not None and isinstance(at, int | float):
                positive = value if value is not None and value > 0 else None
                lines.setdefault(f"{percent:g}th percentile", []).append((float(at), positive))
    drawn = [Line(name, values, f"faint {run.style}", said=4) for name, values in lines.items()]
    name = f"eigenvalues of the noise: {run.label}"
    return plot(name, EPOCHS, drawn, limits(drawn, log=True))


def _says(runs: Sequence[Probed], probe: str) -> str:
    """How the middle layer's condition number stands to the isotropic one, at last."""
    ratios: dict[str, float | None] = {}
    for run in runs:
        condition = by_layer(run.of(probe), "condition")
        isotropic = by_layer(run.of(probe), "isotropic_condition")
        pairs = [(last(condition[n]), last(isotropic.get(n, []))) for n in condition]
        ratios[run.label] = median(a / b for a, b in pairs if a is not None and b)
    known = [v for v in ratios.values() if v is not None]
    if not known:
        return "No row says what isotropic noise of the same size would have."
    above = sum(1 for v in known if v > 2)
    plain = (
        f"anisotropic by more than a factor of 2 in {above} of {len(known)} runs"
        if len(known) > 1
        else ("anisotropic" if above else "not far from isotropic")
    )
    return (
        "Condition number of the noise over that of isotropic noise, middle layer of the last "
        f"row: {beside(ratios)}: {plain}. A value of 1 is isotropic."
    )
