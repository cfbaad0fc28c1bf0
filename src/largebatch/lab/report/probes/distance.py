"""How far is each weight from the minimum of its parabola? CURV, Eq. 25 to 28.

d_i = g_i/(2*a_i), 2*a_i the loss's second derivative by weight i; mean |d_i| over a layer
"""

from collections.abc import Sequence

from .fields import by_layer, points
from .figure import Shown, apart, kept, key, run_keys, source_rows
from .layers import Line
from .plot import EPOCHS, limits, plot
from .runs import Probed
from .tables import moved, of_lines
from .training import drops, here

PROBE = "distance_to_minimum"


def distance(runs: Sequence[Probed]) -> Shown | None:
    """Mean over the layers of every run; every layer of each run.

    Example:
        >>> distance([]) is None
        True
    """
    seen = [run for run in runs if run.of(PROBE)]
    lines = [Line(r.label, points(r.of(PROBE), "mean_distance"), r.style, r.shape) for r in seen]
    layers = {r.label: by_layer(r.of(PROBE), "mean_distance") for r in seen}
    drawn = {
        r.label: [Line(n, v, f"faint {r.style}", said=3) for n, v in layers[r.label].items()]
        for r in seen
    }
    main = kept([plot("mean distance, over the layers", EPOCHS, [*drops(seen), *lines])])
    each = (
        plot(f"each layer: {r.label}", EPOCHS, drawn[r.label], limits(drawn[r.label])) for r in seen
    )
    panels, more = apart(main, each, seen)
    if not panels:
        return None
    return Shown(
        "distance",
        "Distance of the weights to their minimum",
        f"Mean distance {moved({o.label: o.points for o in lines})}.",
        f"Gao and Zhong (CURV), Eq. 25 to 28, which has no figure; {here(seen)}. Each weight’s "
        "loss is taken as a parabola of its own; where curvatures differ much within a layer the "
        "mean is that of the flattest weights.",
        panels,
        of_lines(lines, "mean distance"),
        source_rows(seen, PROBE),
        [*run_keys(seen), key("a layer", "faint r0")],
        more=more,
    )
