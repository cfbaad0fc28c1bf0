"""Does the large batch's gradient point where the full data's does? GNC, Fig. 3 and 7."""

from collections.abc import Sequence

from ..metric import Metric
from ..parts import Panel
from ..scales import short
from .fields import Points, by_layer, finite, mean, points
from .figure import Shown, apart, kept, key, run_keys, source_rows, told
from .layers import Line, Mark
from .plot import EPOCHS, Limits, plot
from .runs import Probed
from .tables import moved, of_lines
from .training import drops, here, score_name, scores

PROBE = "gradient_cosine"
BESIDE = 3


def cosine(runs: Sequence[Probed]) -> Shown | None:
    """Score and cosine over epochs, a line a run; below them the cosine of every layer.

    Example:
        >>> cosine([]) is None
        True
    """
    seen = [run for run in runs if run.of(PROBE)]
    lines = [Line(r.label, points(r.of(PROBE), "cosine"), r.style, r.shape) for r in seen]
    if not any(line.ys() for line in lines):
        return None
    marks = drops(seen)
    overall = plot("cosine, full data and large batch", EPOCHS, [*marks, *lines])
    panels, more = apart(kept([_score(seen), overall]), _layers(seen), seen)
    keys = run_keys(seen) + ([key("the learning rate drops", "fixed")] if marks else [])
    return Shown(
        "cosine",
        "Where the large batch’s gradient points",
        _says({line.label: line.points for line in lines}, marks),
        "Form of Haruki et al. (GNC), Fig. 3 and 7: there ResNet-32 on CIFAR-100 at batch 8,192, "
        f"160 epochs; {here(seen)}. The full gradient is without augmentation and noise, the large "
        "batch’s is the one the method steps with.",
        panels,
        of_lines(lines, "cosine"),
        source_rows(seen, PROBE) + " Score: the runs’ evaluations.",
        keys,
        leads=True,
        more=more,
    )


def _score(runs: Sequence[Probed]) -> Panel | None:
    lines = [Line(r.label, scores(r.run), r.style, r.shape) for r in runs]
    name = next((n for r in runs if (n := score_name(r.run))), "score")
    label = Metric(name, True, 0).axis
    split = str(runs[0].run.config.get("split", "held-out"))
    return plot(f"{split} {label}", EPOCHS, [*drops(runs), *lines])


def _layers(runs: Sequence[Probed]) -> list[Panel | None]:
    """One chart a run: so many lines of several runs could not be told apart."""
    return [
        plot(
            f"cosine of each layer: {run.label}",
            EPOCHS,
            [
                Line(layer, values, f"faint {run.style}", said=3)
                for layer, values in by_layer(run.of(PROBE), "layer_cosines").items()
            ],
            Limits(-1.0, 1.0),
        )
        for run in runs
    ]


def _says(found: dict[str, Points], marks: Sequence[Mark]) -> str:
    said = f"Cosine with the full data’s gradient {moved(found)}."
    for mark in marks[:2]:
        across = {label: _across(values, mark.at) for label, values in found.items()}
        steps = [f"{n}: {short(p[0])} to {short(p[1])}" for n, p in across.items() if p]
        if steps:
            said += f" Across the drop of the rate at epoch {mark.at:g}: {told(steps)}."
    return said if marks else said + _fall(found)


def _across(values: Points, at: float) -> tuple[float, float] | None:
    """Means of a few values before and after a place."""
    before = finite(y for x, y in values if x <= at)[-BESIDE:]
    after = finite(y for x, y in values if x > at)[:BESIDE]
    one, other = mean(before), mean(after)
    return None if one is None or other is None else (one, other)


def _fall(found: dict[str, Points]) -> str:
    """Where one step down explains most of a curve, if it is a fall of any size."""
    said = []
    for label, values in found.items():
        known = [(x, y) for x, y in values if y is not None]
        best = max((_step(known, k) for k in range(2, len(known) - 1)), default=(0.0, 0.0, 0.0))
        if best[2] > 0.05:
            said.append(f"{label} around epoch {best[1]:.3g}, by {short(best[2])}")
    return f" It fell most: {told(said)}." if said else ""


def _step(known: Sequence[tuple[float, float]], k: int) -> tuple[float, float, float]:
    """(squares explained, where, size) of a fall between the k first values and the rest."""
    before, after = mean(y for _, y in known[:k]) or 0.0, mean(y for _, y in known[k:]) or 0.0
    size = before - after
    weight = k * (len(known) - k) / len(known)
    return (weight * size * abs(size), (known[k - 1][0] + known[k][0]) / 2, size)
