"""What a run's own records say: loss, score, learning rate, and where that rate drops."""

from collections.abc import Sequence

from ..curves import evaluations, train_loss
from ..metric import count
from ..read import Run, number
from .fields import Points
from .layers import Mark
from .runs import Probed

PLACE = {"kind", "step", "epoch", "split", "loss", "seconds"}


def score_name(run: Run) -> str | None:
    """The metric that the run was scored by, from its result or its evaluations.

    Example:
        >>> line = {"kind": "eval", "step": 4, "epoch": 1.0, "loss": 2.0, "mse": 2.5}
        >>> score_name(Run("0", {}, {}, (line,), None))
        'mse'
    """
    if isinstance(name := (run.result or {}).get("metric"), str):
        return name
    rows = [row for row in run.metrics if row.get("kind") == "eval"]
    names = (
        key for row in rows for key in row if key not in PLACE and number(row[key]) is not None
    )
    return next(names, None)


def scores(run: Run) -> Points:
    """(epoch, score) on the split that the run is about.

    Example:
        >>> scores(Run("0", {}, {}, (), None))
        []
    """
    name = score_name(run)
    return [*evaluations(name, "epoch")(run)] if name else []


def held_out_loss(run: Run) -> Points:
    """(epoch, loss) on the split that the run is about.

    Example:
        >>> held_out_loss(Run("0", {}, {}, ({"kind": "eval", "epoch": 1, "loss": 2.0},), None))
        [(1.0, 2.0)]
    """
    return [*evaluations("loss", "epoch")(run)]


def losses(run: Run) -> Points:
    """(epoch, mean training loss over it).

    Example:
        >>> losses(Run("0", {}, {}, ({"kind": "train", "epoch": 1, "loss": 2.0},), None))
        [(1.0, 2.0)]
    """
    return [*train_loss(run)]


def drops(runs: Sequence[Probed]) -> list[Mark]:
    """Where the schedule lets the learning rate jump down, as the runs' configurations say.

    Example:
        >>> config = {"schedule": {"kind": "multistep", "milestones": [20.0], "factor": 0.1}}
        >>> [mark.label for mark in drops([Probed(Run("0", config, {}, (), None), {}, "gnc")])]
        ['the learning rate drops to 0.1 of itself']
    """
    found: dict[tuple[float, str], list[str]] = {}
    for probed in runs:
        for place in _drops(probed.run):
            found.setdefault(place, []).append(probed.label)
    return [
        Mark(words if len(labels) == len(runs) else f"{words} ({', '.join(labels)})", at)
        for (at, words), labels in sorted(found.items())
    ]


def here(runs: Sequence[Probed]) -> str:
    """Task, batch and length of these runs, beside which a document's are read.

    Example:
        >>> config = {"task": "digits", "method": "gnc", "batch_size": 1024, "epochs": 40}
        >>> here([Probed(Run("0", config | {"seed": 0}, {}, (), None), {}, "gnc")])
        'here digits at batch 1,024, 40 epochs'
    """
    tasks = dict.fromkeys(str(p.run.config.get("task", "a task not recorded")) for p in runs)
    sizes = sorted({p.run.batch_size for p in runs})
    lengths = sorted({e for p in runs if (e := number(p.run.config.get("epochs"))) is not None})
    said = f"here {', '.join(tasks)} at batch {_range(sizes)}"
    unit = "epoch" if lengths == [1] else "epochs"
    return f"{said}, {_range(lengths)} {unit}" if lengths else said


def _range(values: Sequence[float]) -> str:
    if len(values) < 2:
        return count(values[0])
    return f"{count(values[0])} to {count(values[-1])}"


def _drops(run: Run) -> list[tuple[float, str]]:
    schedule = run.config.get("schedule")
    if not isinstance(schedule, dict):
        return []
    places: list[tuple[float, str]] = []
    if schedule.get("kind") == "multistep" and isinstance(schedule.get("milestones"), list):
        factor = number(schedule.get("factor"))
        words = "the learning rate drops" + (f" to {factor:g} of itself" if factor else "")
        places = [(at, words) for m in schedule["milestones"] if (at := number(m)) is not None]
    if (at := number(schedule.get("collapse_epoch"))) is not None:
        places.append((at, "the learning rate drops to 0.2 of itself"))
    ends_at = number(run.config.get("epochs"))
    return [place for place in places if ends_at is None or place[0] < ends_at]
