"""How large a batch pays: the gradient's noise scale over the run (McCandlish et al. 2018).

    B_simple = tr(Sigma)/||G||^2        below it a larger batch saves steps, above it little

Beside it the same in the geometry of sign and spectral updates, and each layer's signal-to-noise.
"""

from collections.abc import Sequence

from ..metric import count
from ..parts import Panel
from ..read import Record, number
from ..scales import short
from .fields import Points, by_layer, ends, finite, last, points
from .figure import Shown, apart, kept, key, run_keys, source_rows, told
from .layers import Layer, Level, Line
from .plot import EPOCHS, limits, plot
from .runs import Probed
from .tables import of_lines
from .training import drops, here

PROBE = "noise_scale"
KINDS = {
    "noise_scale": "noise scale (critical batch)",
    "sign_noise_scale": "noise scale of sign updates",
    "spectral_noise_scale": "noise scale of spectral updates",
}


def noise_scale(runs: Sequence[Probed]) -> Shown | None:
    """Noise scales over epochs beside the batch; signal-to-noise of every layer.

    Example:
        >>> noise_scale([]) is None
        True
    """
    seen = [run for run in runs if run.of(PROBE)]
    lines = {kind: [_line(run, kind) for run in seen] for kind in KINDS}
    batches: list[Layer] = [
        Level(f"a batch of {count(size)}", size, "theory")
        for size in sorted({_batch(run) for run in seen})
    ]
    panels = kept(
        plot(KINDS[kind], EPOCHS, [*drops(seen), *batches, *each], limits([*batches, *each], True))
        for kind, each in lines.items()
        if any(line.ys() for line in each)
    )
    panels, more = apart(panels, (_signal(run) for run in seen), seen)
    if not panels and not more:
        return None
    return Shown(
        "noise-scale",
        "Noise scale and critical batch",
        _says(seen),
        "No figure of the documents; McCandlish et al. (2018), Fig. 4 has the form; "
        f"{here(seen)}. Estimates at or below zero, which noise can make, are left out of the "
        "logarithmic scale.",
        panels,
        of_lines([line for each in lines.values() for line in each], "noise scale"),
        source_rows(seen, PROBE),
        [*run_keys(seen), key("the batch", "theory")],
        leads=True,
        more=more,
    )


def _line(run: Probed, kind: str) -> Line:
    def positive(row: Record) -> float | None:
        value = number(row.get(kind))
        return value if value is not None and value > 0 else None

    return Line(run.label, points(run.of(PROBE), positive), run.style, run.shape)


def _batch(run: Probed) -> float:
    sizes = finite(number(row.get("batch_size")) for row in run.of(PROBE))
    return sizes[-1] if sizes else float(run.run.batch_size)


def _signal(run: Probed) -> Panel | None:
    drawn = [
        Line(name, [(x, y if (y or 0) > 0 else None) for x, y in values], f"faint {run.style}")
        for name, values in by_layer(run.of(PROBE), "layer_signal_to_noise").items()
    ]
    return plot(f"signal to noise of each layer: {run.label}", EPOCHS, drawn, limits(drawn, True))


def _says(runs: Sequence[Probed]) -> str:
    said = []
    for run in runs:
        values: Points = _line(run, "noise_scale").points
        pair, batch = ends(values), _batch(run)
        final = pair[1] if pair else last(values)
        if final is None:
            continue
        start = f"from {short(pair[0])} to " if pair else ""
        name = f"{run.label}: " if len(runs) > 1 else ""
        times = f"the batch of {count(batch)} is {short(batch / final)} times that"
        said.append(f"{name}{start}{short(final)}, {times}")
    if not said:
        return "No row has a noise scale above zero: too few rows, or a gradient lost in noise."
    return f"Noise scale {told(said)}."
