"""Does the noise lie where the loss is sharp? REV's question: GNC's anisotropy against directions.

Share of the noise's variance in each top eigenvector of the Hessian, beside the interval in which
isotropic noise of the same size lies.
"""

from collections.abc import Sequence

from ..parts import Panel
from ..read import Record
from .fields import Points, finite, mean, numbers, points
from .figure import Shown, beside, kept, key, run_keys, source_rows, told
from .layers import Layer, Line, Spans
from .plot import EPOCHS, limits, numbered, plot
from .runs import Probed
from .tables import of_lines
from .training import drops, here

GRADIENTS, OFFSETS = "alignment", "offset_alignment"


def alignment(runs: Sequence[Probed]) -> Shown | None:
    """Of gradients: each run's last shares, and over epochs their ratio to isotropic noise's.

    Example:
        >>> alignment([]) is None
        True
    """
    return _aligned(runs, GRADIENTS, "Whether the workers’ gradients differ in sharp directions")


def offset_alignment(runs: Sequence[Probed]) -> Shown | None:
    """The same of where the workers look.

    Example:
        >>> offset_alignment([]) is None
        True
    """
    return _aligned(runs, OFFSETS, "Whether the noise that workers get lies in sharp directions")


def _aligned(runs: Sequence[Probed], probe: str, title: str) -> Shown | None:
    seen = [run for run in runs if run.of(probe)]
    ratios = [Line(r.label, points(r.of(probe), _ratio), r.style, r.shape) for r in seen]
    totals = [Line(r.label, points(r.of(probe), _total), r.style, r.shape) for r in seen]
    panels = kept(
        [
            *(_shares(run, probe) for run in seen),
            plot("share over isotropic noise’s", EPOCHS, [*drops(seen), *ratios]),
            plot("share in all of them together", EPOCHS, [*drops(seen), *totals]),
        ]
    )
    if not panels:
        return None
    return Shown(
        probe.replace("_", "-"),
        title,
        _says(seen, probe),
        "No figure of the documents: the measurement that the review of GNC asks for; "
        f"{here(seen)}. The grey bar is the interval that the rows give for isotropic noise of "
        "the same size, its mark the mean.",
        panels,
        of_lines([*ratios, *totals], "ratio, then share"),
        source_rows(seen, probe),
        [*run_keys(seen), key("isotropic noise", "fixed", "square")],
        leads=True,
    )


def _ratio(row: Record) -> float | None:
    """What the row says, or the mean of shares over isotropic shares."""
    if (said := mean(numbers(row.get("ratio")))) is not None:
        return said
    own, null = mean(numbers(row.get("noise_share"))), mean(numbers(row.get("isotropic_share")))
    return own / null if own is not None and null else None


def _total(row: Record) -> float | None:
    known = finite(numbers(row.get("noise_share")))
    return sum(known) if known else None


def _each(row: Record, field: str, length: int) -> list[float | None]:
    """One value for each eigenvector, also where the row has one for all."""
    values = numbers(row.get(field))
    return values * length if len(values) == 1 else values + [None] * (length - len(values))


def _shares(run: Probed, probe: str) -> Panel | None:
    row = run.of(probe)[-1]
    own = numbers(row.get("noise_share"))
    null, low, high = (_each(row, f"isotropic_{f}", len(own)) for f in ("share", "low", "high"))
    spans = [
        (float(k), m, a, b)
        for k, (m, a, b) in enumerate(zip(null, low, high, strict=False))
        if m is not None and a is not None and b is not None
    ]
    shares: Points = [(float(k), v) for k, v in enumerate(own)]
    drawn: list[Layer] = [
        Spans("isotropic noise", spans, "fixed", "square"),
        Line(run.label, shares, f"thin {run.style}", run.shape, said=40),
    ]
    names = [f"eigenvalue {_value(row, k)}" for k in range(len(own))]
    if not names:
        return None
    axis = numbered("eigenvector, the sharpest first", names)
    return plot(f"share of the noise, last row: {run.label}", axis, drawn, limits(drawn))


def _value(row: Record, k: int) -> str:
    values = numbers(row.get("eigenvalues"))
    known = values[k] if k < len(values) else None
    return "not recorded" if known is None else f"{known:.3g}"


def _says(runs: Sequence[Probed], probe: str) -> str:
    ratios = {run.label: _ratio(run.of(probe)[-1]) for run in runs}
    above = {run.label: _above(run.of(probe)[-1]) for run in runs}
    said = f"Share of the noise in the sharp directions over isotropic noise’s: {beside(ratios)}."
    counted = [f"{label}: {n} of {total}" for label, (n, total) in above.items() if total]
    if counted:
        said += f" Above the isotropic interval: {told(counted)} eigenvectors, last row."
    return said


def _above(row: Record) -> tuple[int, int]:
    own = numbers(row.get("noise_share"))
    high = _each(row, "isotropic_high", len(own))
    pairs = [(o, h) for o, h in zip(own, high, strict=False) if o is not None and h is not None]
    return sum(1 for o, h in pairs if o > h), len(pairs)
