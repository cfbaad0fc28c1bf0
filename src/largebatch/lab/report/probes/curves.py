"""Loss and score over epochs: CURV, Fig. 8 and 16 (runs side by side), 11 to 14 (seeds)."""

import json
import math
from collections.abc import Callable, Sequence

from ..parts import Panel
from ..read import Run
from .fields import Points, finite, last
from .figure import Shown, beside, kept, key, run_keys
from .layers import Band, Line
from .plot import EPOCHS, limits, plot
from .runs import Probed
from .tables import moved, of_lines
from .training import drops, held_out_loss, here, losses, score_name, scores

SOURCE = "Rows: train and eval of metrics.jsonl."
Read = Callable[[Run], Points]


def curves(runs: Sequence[Probed]) -> Shown | None:
    """Training loss, held-out loss and score of every run.

    Example:
        >>> curves([]) is None
        True
    """
    label = score_label(runs)
    lines = {what: _lines(runs, read) for what, read in _reads(label).items()}
    marks = drops(runs)
    panels = kept(plot(what, EPOCHS, [*marks, *each], limits(each)) for what, each in lines.items())
    if not panels:
        return None
    train = lines["training loss"]
    return Shown(
        "curves",
        "Loss and score over epochs",
        f"Training loss {moved({o.label: o.points for o in train})}.",
        "Form of Gao and Zhong (CURV), Fig. 8, there AlexNet on CIFAR-10 at batches of 32 to "
        "49,152, and of Fig. 16, there ResNet18’s training accuracy under two methods; "
        f"{here(runs)}. Training accuracy is not recorded: the held-out score stands for it.",
        panels,
        of_lines([o for o in train if o.ys()] or lines[label], "training loss"),
        SOURCE,
        [*run_keys(runs), *([key("the learning rate drops", "fixed")] if marks else [])],
    )


def score_label(runs: Sequence[Probed]) -> str:
    """What the score is called.

    Example:
        >>> score_label([])
        'held-out score'
    """
    name = next((n for run in runs if (n := score_name(run.run))), "score")
    splits = {str(run.run.config.get("split", "held-out")) for run in runs}
    split = splits.pop() if len(splits) == 1 else "held-out"
    return f"{split} {name.replace('_percent', ' (%)').replace('_', ' ')}"


def seeds(runs: Sequence[Probed]) -> Shown | None:
    """Runs that differ in their seed alone, on one scale: every curve thin, their range shaded.

    Example:
        >>> seeds([]) is None
        True
    """
    groups = [group for group in grouped(runs) if len(group) > 1]
    label = score_label(runs)
    panels: list[Panel | None] = []
    ends: dict[str, float | None] = {}
    for what, read in _reads(label).items():
        drawn = [(group, _lines(group, read)) for group in groups]
        shown = limits(line for _, lines in drawn for line in lines)
        for group, lines in drawn:
            name = _name(group)
            thin = [Line(o.label, o.points, f"faint {group[0].style}", said=3) for o in lines]
            band = Band(f"range of {len(group)} seeds", _range(lines), group[0].style)
            panels.append(plot(f"{what}: {name}", EPOCHS, [band, *thin], shown))
            if what == label:
                ends[name] = _deviation([last(line.points) for line in lines])
    charts = kept(panels)
    if not charts:
        return None
    every = [o for g in groups for o in _lines(g, scores)]
    return Shown(
        "seeds",
        "The same run from several seeds",
        f"Standard deviation of the last {label} over the seeds: {beside(ends)}.",
        "Form of Gao and Zhong (CURV), Fig. 11 to 14: there AlexNet on CIFAR-10 at batch 8,192, "
        f"with and without a smaller batch in the first epoch; {here(runs)}. Held-out score in "
        "place of training accuracy.",
        charts,
        of_lines(every, label),
        SOURCE,
        [key("a seed", "faint r0"), key("range of the seeds", "r0", kind="spread")],
    )


def grouped(runs: Sequence[Probed]) -> list[list[Probed]]:
    """Runs with the same configuration but for the seed.

    Example:
        >>> grouped([])
        []
    """
    found: dict[str, list[Probed]] = {}
    for run in runs:
        config = {k: v for k, v in run.run.config.items() if k != "seed"}
        found.setdefault(json.dumps(config, sort_keys=True, default=str), []).append(run)
    return list(found.values())


def _reads(label: str) -> dict[str, Read]:
    return {"training loss": losses, "held-out loss": held_out_loss, label: scores}


def _lines(runs: Sequence[Probed], read: Read) -> list[Line]:
    return [Line(run.label, read(run.run), run.style, run.shape) for run in runs]


def _name(group: Sequence[Probed]) -> str:
    """What the labels of a group's runs have in common."""
    parts = [run.label.split(" · ") for run in group]
    return " · ".join(p for p in parts[0] if all(p in other for other in parts)) or parts[0][0]


def _range(lines: Sequence[Line]) -> list[tuple[float, float, float]]:
    """Lowest and highest of the seeds, where more than one has a value."""
    at: dict[float, list[float]] = {}
    for line in lines:
        for x, y in line.points:
            at.setdefault(x, []).extend(finite([y]))
    return [(x, min(v), max(v)) for x, v in sorted(at.items()) if len(v) > 1]


def _deviation(values: Sequence[float | None]) -> float | None:
    known = finite(values)
    if len(known) < 2:
        return None
    middle = math.fsum(known) / len(known)
    return math.sqrt(math.fsum((v - middle) ** 2 for v in known) / (len(known) - 1))
