"""The finding in words, from the rows: what was lost, what won back, what nobody can say."""

from collections.abc import Sequence

from largebatch.lab.report.judge import verdict
from largebatch.lab.report.metric import Metric, count, percent
from largebatch.lab.report.read import Comparison
from largebatch.lab.report.row import Row, Section
from largebatch.lab.report.stats import SEEDS_FOR_A_VERDICT, Estimate, paired_difference


def headline(comparison: Comparison, section: Section, metric: Metric) -> list[str]:
    """Sentences that state the finding at one large batch size, the loss first.

    Example:
        >>> asked = Comparison({"task": "digits", "small_batch": 64}, (), (), ())
        >>> headline(asked, Section(1024, None, None, ()), Metric("accuracy_percent", True, 1))[0]
        'On digits, nothing can be said yet at batch 1,024: momentum SGD was not run there.'
    """
    loss = _loss(comparison, section, metric)
    return [s for s in (loss, *_best(section, metric), _control(section, metric)) if s]


def join(names: Sequence[str]) -> str:
    """Names as a sentence lists them.

    Example:
        >>> join(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def interval(difference: Estimate, metric: Metric, sign: float = 1.0) -> str:
    """The 95% interval in words; says how many pairs where there is no interval.

    Example:
        >>> interval(Estimate(1.0, 0.1, 0.9, 1.1, 5), Metric("accuracy_percent", True, 1))
        '95% interval 0.9 to 1.1'
    """
    if difference.low is None or difference.high is None:
        return "one seed, no interval"
    low, high = sorted((sign * difference.low, sign * difference.high))
    return f"95% interval {metric.plain(low)} to {metric.plain(high)}"


def diverged(row: Row) -> str:
    """How many of a row's seeds diverged, in words; empty if none did.

    Example:
        >>> diverged(Row("sngm", 9, "method", (), {0: None, 1: 2.0}))
        '1 of 2 seeds diverged'
    """
    return f"{len(row.diverged)} of {len(row.values)} seeds diverged" if row.diverged else ""


def _loss(comparison: Comparison, section: Section, metric: Metric) -> str:
    task = str(comparison.question["task"])
    here, there = count(section.batch_size), count(comparison.small_batch)
    start = f"On {task}, momentum SGD at batch {here}"
    baseline, reference = section.baseline, section.reference
    if baseline is None or not baseline.values:
        state = (
            "was not run there" if not (baseline and baseline.runs) else "has not finished there"
        )
        return f"On {task}, nothing can be said yet at batch {here}: momentum SGD {state}."
    if not baseline.finished:
        return f"{start} has no final value: {diverged(baseline)}."
    note = f" ({diverged(baseline)})" if baseline.diverged else ""
    if reference is None or reference.difference is None:
        mean = baseline.estimate.mean if baseline.estimate else 0.0
        ends = f"ends at {metric.value(mean)} {metric.label}{note}"
        if section.batch_size == comparison.small_batch:
            return f"{start}, the reference itself, {ends}."
        return (
            f"{start} {ends}; no seed of it can be paired with the reference at batch {there} yet."
        )
    return f"{start} {_against_reference(comparison, reference.difference, metric)}{note}."


def _against_reference(comparison: Comparison, gap: Estimate, metric: Metric) -> str:
    """`gap`: reference minus baseline."""
    epochs = comparison.question.get("epochs")
    after = f" after the same {epochs} epochs" if epochs else " after the same epochs"
    there = f"batch {count(comparison.small_batch)}"
    size, worse = metric.points(gap.mean), metric.sign * gap.mean > 0
    if gap.n < SEEDS_FOR_A_VERDICT:
        pairs = "1 pair of seeds" if gap.n == 1 else f"{gap.n} pairs of seeds"
        return (
            f"ends {size} {'worse' if worse else 'better'} than {there}{after}, on {pairs}: "
            f"too few for a verdict, which takes {SEEDS_FOR_A_VERDICT}"
        )
    found = verdict(gap, metric)
    if found == "not distinguishable":
        return (
            f"shows no loss that can be told from zero against {there}{after}: it ends {size} "
            f"{'worse' if worse else 'better'} on average ({interval(gap, metric)})"
        )
    if found == "better":
        return f"loses {size} against {there}{after}"
    return f"loses nothing: it ends {size} better than {there}{after}"


def _best(section: Section, metric: Metric) -> list[str]:
    """What became of the method, or the methods, that were best on validation."""
    best = section.best
    if not best:
        return []
    names = join([row.method for row in best])
    if len(best) > 1:
        start = f"Best on validation, tied, are {names}"
        return [
            f"{start}: "
            + "; ".join(f"{r.method} {_outcome(r, section, metric)}" for r in best)
            + "."
        ]
    if best[0] is section.baseline:
        return ["No method did better than momentum SGD itself on validation."]
    return [f"The method best on validation, {names}, {_outcome(best[0], section, metric)}."]


def _outcome(row: Row, section: Section, metric: Metric) -> str:
    if row is section.baseline:
        return "is what the others are compared with"
    if not row.values:
        return "has no final result yet"
    if not row.finished:
        return f"has no final value: {diverged(row)}"
    note = f" ({diverged(row)})" if row.diverged else ""
    if row.difference is None:
        return _unpaired(row, section, metric) + note
    return _won(row, row.difference, section, metric) + note


def _unpaired(row: Row, section: Section, metric: Metric) -> str:
    """Where momentum SGD left nothing to compare with, the reference is what remains."""
    mean = row.estimate.mean if row.estimate else 0.0
    said = f"ends at {metric.value(mean)}"
    reference = section.reference
    gap = paired_difference(row.values, reference.values) if reference else None
    if reference is None or gap is None:
        return f"{said}, with no run of momentum SGD to pair it with"
    way = "better" if metric.sign * gap.mean > 0 else "worse"
    there = count(reference.batch_size)
    return f"{said}, {metric.points(gap.mean)} {way} than momentum SGD at batch {there}"


def _won(row: Row, difference: Estimate, section: Section, metric: Metric) -> str:
    size, better = metric.points(difference.mean), metric.sign * difference.mean > 0
    if not row.verdict:
        way = "better" if better else "worse"
        return f"ends {size} {way} than momentum SGD there, too few pairs of seeds for a verdict"
    if row.verdict == "not distinguishable":
        told = f"cannot be told from momentum SGD there ({interval(difference, metric)})"
        return f"{told}: it wins back nothing that shows" if row.share else told
    if row.verdict == "worse":
        return f"loses {'a further ' if row.share else ''}{size}"
    if row.share is None:
        return f"ends {size} better than momentum SGD there"
    return f"wins back {percent(row.share.value)} of it"


def _control(section: Section, metric: Metric) -> str:
    """Training longer says how much of a loss is only too few updates."""
    row = next((r for r in section.methods if r.method == "msgd+longer"), None)
    if row is None or row.share is None or row.verdict != "better":
        return ""
    return (
        f"Trained for as many updates as the reference, momentum SGD wins back "
        f"{percent(row.share.value)} of it: so much is too few updates, paid for with more epochs."
    )
