"""Does leaving out small losses enlarge the gradient? CURV, Fig. 9."""

from collections.abc import Sequence

from ..read import Record
from ..scales import short, tick_text
from .fields import Points, mean, numbers, table_of
from .figure import Shown, kept, key, source_rows, told
from .layers import Layer, Line
from .plot import Across, plot
from .runs import Probed
from .tables import of_lines
from .training import here

PROBE = "discarded_gradient"
SHARE = Across("share of smallest losses left out (%)", lambda x: f"{tick_text(x)}% left out")


def discarded(runs: Sequence[Probed]) -> Shown | None:
    """Every layer's mean gradient against the share left out, over its value with the least.

    Example:
        >>> discarded([]) is None
        True
    """
    seen = [run for run in runs if run.of(PROBE)]
    rows = {run.label: run.of(PROBE)[0] for run in seen}
    panels = kept(plot(_caption(run), SHARE, _layers(run, rows[run.label])) for run in seen)
    if not panels:
        return None
    lines = [
        Line(f"{run.label}: {name}", values, "")
        for run in seen
        for name, values in _by_layer(rows[run.label]).items()
    ]
    return Shown(
        "discarded",
        "Mean gradient against the share of small losses left out",
        _says(seen),
        "Form of Gao and Zhong (CURV), Fig. 9: there AlexNet’s second fully connected layer on "
        f"CIFAR-10 at batch 8,192, first update; {here(seen)}, every layer, over its own value "
        "with the least left out, so that layers can stand in one chart; first probed step.",
        panels,
        of_lines(lines, "mean |g|, as measured", SHARE),
        source_rows(seen, PROBE),
        [key("a layer", "faint r0"), key("mean of the layers", "r0 bold")],
    )


def _caption(run: Probed) -> str:
    return f"mean |g| over its first value: {run.label}"


def _by_layer(row: Record) -> dict[str, Points]:
    shares, table = numbers(row.get("shares")), table_of(row, "mean_magnitude")
    found: dict[str, Points] = {}
    for share, values in zip(shares, table, strict=False):
        for name, value in zip(row.get("layers") or [], values, strict=False):
            if share is not None:
                found.setdefault(str(name), []).append((share, value))
    return {name: sorted(values, key=lambda p: p[0]) for name, values in found.items()}


def _relative(row: Record) -> dict[str, Points]:
    found = {}
    for name, values in _by_layer(row).items():
        first = next((v for _, v in values if v is not None and v > 0), None)
        if first:
            found[name] = [(x, None if v is None else v / first) for x, v in values]
    return found


def _mean(found: dict[str, Points]) -> Points:
    at: dict[float, list[float | None]] = {}
    for values in found.values():
        for x, v in values:
            at.setdefault(x, []).append(v)
    return [(x, mean(values)) for x, values in sorted(at.items())]


def _layers(run: Probed, row: Record) -> list[Layer]:
    found = _relative(row)
    drawn: list[Layer] = [
        Line(name, values, f"faint {run.style}", said=3) for name, values in found.items()
    ]
    return [*drawn, Line("mean of the layers", _mean(found), f"{run.style} bold", run.shape)]


def _says(runs: Sequence[Probed]) -> str:
    said = []
    for run in runs:
        known = [(x, v) for x, v in _mean(_relative(run.of(PROBE)[0])) if v is not None]
        if known:
            x, v = known[-1]
            name = f"{run.label}: " if len(runs) > 1 else ""
            said.append(f"{name}{short(v)} times with {tick_text(x)}% left out")
    if not said:
        return "No row holds a gradient above zero."
    return f"The mean gradient, against that with the least left out: {told(said)}."
