"""Do the workers look where the loss changes? GNC, Fig. 4b, 4c and 8."""

from collections.abc import Sequence

from ..parts import Panel
from ..read import Record, number
from .fields import Points, finite, mean, numbers, points
from .figure import Shown, beside, kept, key, source_rows
from .layers import Band, Layer, Line
from .plot import EPOCHS, limits, plot
from .runs import Probed
from .tables import of_lines
from .training import drops, here

PROBE = "perturbed_loss"


def perturbed(runs: Sequence[Probed]) -> Shown | None:
    """The loss at w bold, the range of the losses at the workers' weights shaded.

    Example:
        >>> perturbed([]) is None
        True
    """
    seen = [run for run in runs if run.of(PROBE)]
    layers = {run.label: _layers(run) for run in seen}
    shown = limits(layer for each in layers.values() for layer in each)
    if shown is None:
        return None
    panels: list[Panel | None] = [
        plot(f"loss: {run.label}", EPOCHS, [*drops([run]), *layers[run.label]], shown)
        for run in seen
    ]
    spreads = [Line(r.label, points(r.of(PROBE), _spread), r.style, r.shape) for r in seen]
    panels.append(plot("range of the workers’ losses, over the loss", EPOCHS, spreads))
    return Shown(
        "perturbed-loss",
        "Losses where the workers look",
        _says(spreads),
        "Form of Haruki et al. (GNC), Fig. 4b, 4c and 8: there single steps around epochs 10 and "
        "140 (ResNet-32 on CIFAR-100) or 21 and 81 (ResNet-50 on ImageNet); here the steps that "
        f"were probed, {here(seen)}. All runs share one scale.",
        kept(panels),
        of_lines(spreads, "range over loss"),
        source_rows(seen, PROBE),
        [
            *(key(f"loss at w: {run.label}", f"{run.style} bold") for run in seen),
            key("range over the workers", "r0", kind="spread"),
        ],
        leads=True,
    )


def _layers(run: Probed) -> list[Layer]:
    band = []
    for row in run.of(PROBE):
        at, known = number(row.get("epoch")), finite(numbers(row.get("worker_losses")))
        if at is not None and known:
            band.append((at, min(known), max(known)))
    line = Line(f"{run.label}, at w", points(run.of(PROBE), "loss"), f"{run.style} bold")
    return [Band(f"{run.label}, workers", band, run.style), line]


def _spread(row: Record) -> float | None:
    known, loss = finite(numbers(row.get("worker_losses"))), number(row.get("loss"))
    return (max(known) - min(known)) / loss if known and loss is not None and loss > 0 else None


def _says(spreads: Sequence[Line]) -> str:
    found: dict[str, Points] = {line.label: line.points for line in spreads if line.ys()}
    early = {n: mean(_part(p, first=True)) for n, p in found.items()}
    late = {n: mean(_part(p, first=False)) for n, p in found.items()}
    if not found:
        return "No row holds workers’ losses."
    if all(len(line.ys()) < 2 for line in spreads):
        return (
            f"From its lowest to its highest worker the loss differs {beside(early)} times itself."
        )
    return (
        "From its lowest to its highest worker the loss differs by this many times itself: "
        f"{beside(early)} in the first half of the rows, {beside(late)} in the second."
    )


def _part(found: Points, first: bool) -> list[float]:
    known = finite(y for _, y in found)
    half = (len(known) + 1) // 2
    return known[:half] if first else known[half:] or known[-1:]
