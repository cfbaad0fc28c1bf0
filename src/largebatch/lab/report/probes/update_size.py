"""How far a step moves the weights, and how far all of them: CURV, Fig. 4 and 5; SNGM, Lemma 2.

searched space = sum over steps of mean |dw|        ||u|| <= 1/(1 - beta) where ||g|| is made 1
"""

from collections.abc import Sequence

from ..metric import count
from ..parts import Panel
from ..read import number
from ..scales import short
from .fields import Points, finite, mean, numbers, points
from .figure import Shown, beside, kept, key, run_keys, source_rows, told
from .layers import Band, Layer, Level, Line
from .plot import BATCH, EPOCHS, limits, plot
from .runs import Probed
from .tables import of_lines
from .training import drops, here

PROBE = "update_size"


def update_size(runs: Sequence[Probed]) -> list[Shown]:
    """The size of the step over epochs and against batch size, and the momentum with its bound.

    Example:
        >>> update_size([])
        []
    """
    seen = [run for run in runs if run.of(PROBE)]
    return [figure for figure in (_sizes(seen), _momentum(seen)) if figure is not None]


def _sizes(runs: Sequence[Probed]) -> Shown | None:
    lines = [Line(r.label, points(r.of(PROBE), "mean_magnitude"), r.style, r.shape) for r in runs]
    areas = [
        Band(f"{o.label}, area to here", [(x, 0.0, y) for x, y in o.points if y], o.style, said=0)
        for o in lines
    ]
    searched = _searched(runs)
    panels = kept(
        [
            plot("mean |Δw| of a step", EPOCHS, [*drops(runs), *areas, *lines]),
            plot("searched space: sum of mean |Δw|", EPOCHS, searched, limits(searched, False)),
            *_against_batch(runs),
        ]
    )
    if not panels:
        return None
    return Shown(
        "update-size",
        "How far a step moves the weights",
        _says(runs),
        "Form of Gao and Zhong (CURV), Fig. 5, the area below a curve being the searched space, "
        "and, where runs have different batches, Fig. 4: there AlexNet on CIFAR-10, batches of 32 "
        f"to 49,152; {here(runs)}, mean over the layers. The dashed guide falls as 1/√n (Eq. 6) "
        "from the smallest batch.",
        panels,
        of_lines(lines, "mean |Δw|"),
        source_rows(runs, PROBE),
        run_keys(runs),
    )


def _searched(runs: Sequence[Probed]) -> list[Line]:
    return [Line(r.label, points(r.of(PROBE), "searched_space"), r.style, r.shape) for r in runs]


def _early(run: Probed) -> float | None:
    """Mean of |dw| over the rate in the first epoch, or in the first row after it."""
    found = points(run.of(PROBE), "mean_magnitude_over_lr")
    first = [y for x, y in found if x <= 1] or [y for _, y in found[:1]]
    return mean(first)


def _against_batch(runs: Sequence[Probed]) -> list[Panel | None]:
    if len({run.run.batch_size for run in runs}) < 2:
        return []
    spots: list[Line] = []
    known: list[tuple[float, float]] = []
    for run in runs:
        value = _early(run)
        if value is not None and value > 0:
            size = float(run.run.batch_size)
            spots.append(Line(run.label, [(size, value)], run.style, run.shape))
            known.append((size, value))
    if not known:
        return []
    start, value = min(known)
    guide: Points = [(n, value * (start / n) ** 0.5) for n, _ in sorted(known)]
    drawn: list[Layer] = [Line("1/√n from the smallest batch", guide, "theory", said=3), *spots]
    return [plot("mean |Δw| over the rate, first epoch", BATCH, drawn, limits(drawn, log=True))]


def _momentum(runs: Sequence[Probed]) -> Shown | None:
    lines = [Line(r.label, points(r.of(PROBE), "momentum_norm"), r.style, r.shape) for r in runs]
    bounds = {r.label: _bound(r) for r in runs}
    known = sorted({b for b in bounds.values() if b is not None})
    levels = [Level("bound 1/(1−β)", b, "theory") for b in known]
    panel = plot("norm of the momentum", EPOCHS, [*levels, *lines])
    if panel is None or not any(line.ys() for line in lines):
        return None
    over = [
        o.label for o in lines if o.ys() and (b := bounds[o.label]) and max(o.ys()) > b * 1.0001
    ]
    said = "stays below" if not over else f"goes above, in {told(over)},"
    highest = {o.label: max(o.ys()) for o in lines if o.ys()}
    return Shown(
        "momentum",
        "Norm of the momentum",
        f"Largest norm {beside(highest)}"
        + (f": it {said} the bound of {short(known[-1])}." if known else ", no bound recorded."),
        "Zhao et al. (SNGM), Lemma 2, which has no figure: the bound 1/(1−β) holds where each "
        "step’s gradient has norm 1; for update rules that do not normalize it is no bound, only "
        f"a scale; {here(runs)}. Where a row holds one norm a block, their mean is drawn.",
        [panel],
        of_lines(lines, "momentum norm"),
        source_rows(runs, PROBE),
        [*run_keys(runs), key("bound", "theory")],
    )


def _bound(run: Probed) -> float | None:
    known = finite(v for row in run.of(PROBE) for v in numbers(row.get("momentum_bound")))
    return known[-1] if known else None


def _says(runs: Sequence[Probed]) -> str:
    totals = {run.label: _total(run) for run in runs}
    if not finite(totals.values()):
        return (
            f"Mean step over the rate, first epoch: {beside({r.label: _early(r) for r in runs})}."
        )
    steps = {
        r.label: number(r.of(PROBE)[-1].get("step")) for r in runs if totals[r.label] is not None
    }
    last = max((s for s in steps.values() if s is not None), default=None)
    until = "" if last is None else f" (until step {count(last)} at most)"
    return f"Searched space, the steps’ sizes added up{until}: {beside(totals)}."


def _total(run: Probed) -> float | None:
    known = finite(y for _, y in points(run.of(PROBE), "searched_space"))
    return known[-1] if known else None
