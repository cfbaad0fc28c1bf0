"""What was asked, where it ran, where it diverged: the page's plain tables."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from largebatch.lab.report.curves import stopped_at
from largebatch.lab.report.metric import brief, count
from largebatch.lab.report.parts import Table
from largebatch.lab.report.read import Comparison, Run, number
from largebatch.lab.report.row import Section

DASH = "\N{EN DASH}"


def asked(comparison: Comparison) -> list[tuple[str, str]]:
    """The question as pairs of name and value; what compare.json does not say is left out.

    Example:
        >>> asked(Comparison({"task": "digits", "small_batch": 64, "seeds": [0, 1]}, (), (), ()))
        [('Task', 'digits'), ('Reference batch', '64'), ('Seeds', '2: 0, 1')]
    """
    q = comparison.question
    sizes = ", ".join(count(b) for b in comparison.large_batches)
    pairs = [
        ("Task", f"{q['task_title']} ({q['task']})" if q.get("task_title") else q["task"]),
        ("Training examples", _count(q.get("train_examples"))),
        ("Training examples while tuning", _count(q.get("tuning_examples"))),
        ("Validation examples", _count(q.get("validation_examples"))),
        ("Test examples", _count(q.get("test_examples"))),
        ("Reference batch", count(comparison.small_batch)),
        ("Large batch", sizes),
        ("Worker's own batch", _count(q.get("worker_size"))),
        ("Epochs", _count(q.get("epochs"))),
        ("Epochs while tuning", _count(q.get("tuning_epochs"))),
        ("Seeds", _seeds(q.get("seeds"))),
        ("Tuning seeds", _seeds(q.get("tuning_seeds"))),
        ("Trials per method and batch size", trials(comparison) or _count(q.get("trials"))),
        ("Scale", q.get("scale")),
    ]
    return [(name, str(value)) for name, value in pairs if value]


def trials(comparison: Comparison) -> str:
    """The numbers of trials that choices.json tells of: one where the effort was equal.

    Example:
        >>> choices = ({"method": "lars", "trials": 9}, {"method": "sngm", "trials": 12})
        >>> trials(Comparison({}, choices, (), ())), trials(Comparison({}, choices[:1], (), ()))
        ('9 to 12', '9')
    """
    seen = sorted(int(n) for c in comparison.choices if (n := number(c.get("trials"))) is not None)
    if not seen:
        return ""
    return count(seen[0]) if seen[0] == seen[-1] else f"{count(seen[0])} to {count(seen[-1])}"


def effort(comparison: Comparison) -> str:
    """Says whether every method was tuned with equal effort, and on what.

    Example:
        >>> choices = ({"method": "lars", "trials": 9}, {"method": "sngm", "trials": 12})
        >>> effort(Comparison({}, choices, (), ()))[:45]
        'Methods got 9 to 12 trials, their own paramet'
    """
    spent = trials(comparison)
    if not spent:
        said = "Nothing is recorded of any tuning."
    elif "to" in spent:
        said = (
            f"Methods got {spent} trials, their own parameters included: not all the same number."
        )
    else:
        said = f"Every method got the same number of trials, {spent}, its own parameters included."
    return f"{said} Choices are made on validation data alone; the test data is for the final runs."


def unfinished(comparison: Comparison, sections: Iterable[Section]) -> str:
    """Says how much of the comparison is missing; empty if nothing is.

    Example:
        >>> unfinished(Comparison({"task": "digits", "small_batch": 64}, (), (), ()), ())
        ''
    """
    rows = {(r.method, r.batch_size): r for section in sections for r in section.all_rows}
    missing = sum(row.unfinished for row in rows.values())
    total = sum(row.expected for row in rows.values())
    trials = sum(1 for run in comparison.tuning if run.status == "unfinished")
    said = []
    if missing:
        said.append(f"{missing} of {total} final runs have no result yet")
    if trials:
        said.append(f"{trials} of {len(comparison.tuning)} tuning runs were interrupted")
    return "; ".join(said)


def diverged_table(comparison: Comparison) -> Table | None:
    """Every run that diverged and where; None if none did.

    Example:
        >>> diverged_table(Comparison({"task": "digits", "small_batch": 64}, (), (), ())) is None
        True
    """
    stages = (("final", comparison.final), ("tuning", comparison.tuning))
    rows = [
        _diverged(stage, run) for stage, runs in stages for run in runs if run.status == "diverged"
    ]
    head = ("method", "batch size", "stage", "seed", "learning rate", "alpha", "update", "epoch")
    return Table(head, rows) if rows else None


def _diverged(stage: str, run: Run) -> list[str]:
    step, epoch = stopped_at(run, "step"), stopped_at(run, "epoch")
    return [
        run.method,
        count(run.batch_size),
        stage,
        str(run.seed),
        brief(number(run.config.get("lr"))),
        brief(number(run.config.get("alpha"))),
        count(step) if step is not None else DASH,
        brief(epoch),
    ]


def environment_table(comparison: Comparison) -> Table:
    """What the runs ran on; more than one value where they did not all run on the same.

    Example:
        >>> run = Run("0", {}, {"torch": "2.13.0", "packages": {"numpy": "2.4"}}, (), None)
        >>> environment_table(Comparison({}, (), (), (run,))).rows
        [['torch', '2.13.0'], ['numpy', '2.4']]
    """
    seen: dict[str, dict[str, None]] = defaultdict(dict)
    for run in (*comparison.final, *comparison.tuning):
        for name, value in (*_flat(run.environment), *_flat({"device": run.config.get("device")})):
            seen[name][value] = None
    return Table(("what", "value"), [[name, " / ".join(values)] for name, values in seen.items()])


def _flat(environment: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name, value in environment.items():
        if isinstance(value, dict):
            yield from _flat(value)
        elif value is not None:
            yield str(name), str(value)


def _count(value: object) -> str | None:
    known = number(value)
    return None if known is None else count(known)


def _seeds(value: object) -> str | None:
    if not isinstance(value, list) or not value:
        return None
    return f"{len(value)}: {', '.join(map(str, value))}"
