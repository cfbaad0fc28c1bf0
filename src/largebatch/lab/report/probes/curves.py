"""Loss and score over epochs: CURV, Fig. 8 and 16 (runs side by side), 11 to 14 (seeds)."""

import json
import math
from collections.abc import Callable, Sequence
from functools import partial

from ..metric import Metric
from ..parts import Panel
from ..read import Record, number
from .fields import Points, finite, last, points
from .figure import Shown, beside, kept, key, run_keys
from .layers import Band, Line
from .plot import EPOCHS, limits, plot
from .runs import Probed
from .tables import moved, of_lines
from .training import drops, held_out_loss, here, losses, score_name, scores

SOURCE = "Rows: train and eval of metrics.jsonl."
TRAINING_SCORE = "training_score"
Read = Callable[[Probed], Points]


def curves(runs: Sequence[Probed]) -> Shown | None:
    """Training loss, held-out loss and score of every run.

    Example:
        >>> curves([]) is None
        True
    """
    label = score_label(runs)
    lines = {what: _lines(runs, read) for what, read in _reads(runs).items()}
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
        f"{here(runs)}. {_instead(runs)}",
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
    return _label(splits.pop() if len(splits) == 1 else "held-out", name)


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
    for what, read in _reads(runs).items():
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
    every = [o for g in groups for o in _lines(g, _held_out)]
    return Shown(
        "seeds",
        "The same run from several seeds",
        f"Standard deviation of the last {label} over the seeds: {beside(ends)}.",
        "Form of Gao and Zhong (CURV), Fig. 11 to 14: there AlexNet on CIFAR-10 at batch 8,192, "
        f"with and without a smaller batch in the first epoch; {here(runs)}. {_instead(runs)}",
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


def _reads(runs: Sequence[Probed]) -> dict[str, Read]:
    """What is drawn over epochs, by its name; the training score where a run was asked for it."""
    reads: dict[str, Read] = {
        "training loss": lambda run: losses(run.run),
        "held-out loss": lambda run: held_out_loss(run.run),
    }
    for metric in dict.fromkeys(_metric(row) for run in runs for row in _scored(run)):
        reads[_label("training", metric)] = partial(_training, metric)
    return reads | {score_label(runs): _held_out}


def _scored(run: Probed) -> list[Record]:
    """Rows with a training score; one that could not look has none."""
    return [row for row in run.of(TRAINING_SCORE) if number(row.get("score")) is not None]


def _metric(row: Record) -> str:
    return str(row.get("metric") or "score")


def _training(metric: str, run: Probed) -> Points:
    return points([row for row in _scored(run) if _metric(row) == metric], "score")


def _held_out(run: Probed) -> Points:
    return scores(run.run)


def _label(examples: str, score: str) -> str:
    return f"{examples} {Metric(score, True, 0).axis}"


def _instead(runs: Sequence[Probed]) -> str:
    """What stands for the training accuracy that the document shows, where that is not there."""
    if any(_scored(run) for run in runs):
        return "Training score: probe training_score, before the step."
    return "No training score was measured (probe training_score): the held-out one stands for it."


def _lines(runs: Sequence[Probed], read: Read) -> list[Line]:
    return [Line(run.label, read(run), run.style, run.shape) for run in runs]


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
