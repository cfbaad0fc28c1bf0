"""The tables of an ablation's page: contrasts, arms, the power calculation, what was asked."""

from collections.abc import Sequence

from largebatch.lab.report.ablation.alignment import (
    GRADIENTS,
    OFFSETS,
    mean_share,
    percent,
    sharpness,
)
from largebatch.lab.report.ablation.judge import Judged, judge
from largebatch.lab.report.ablation.read import Ablated, Arm
from largebatch.lab.report.ablation.words import verdict
from largebatch.lab.report.finding import interval
from largebatch.lab.report.metric import MINUS, Metric, brief, count
from largebatch.lab.report.parts import Table
from largebatch.lab.report.read import number

DASH = "\N{EN DASH}"
LOOKED = ("Offsets in top eigenvectors", "Gradients in them", "Largest eigenvalue at the end")


def contrasts(judged: Sequence[Judged], found: Ablated) -> Table:
    """What was held against what, and what the rule says.

    Example:
        >>> contrasts([], Ablated({"task": "digits"}, (), {}, ())).head[0]
        'What is asked about'
    """
    metric = found.metric
    head = ("What is asked about", "Difference", "Mean [95%]", "Pairs", "p", "Holm’s p", "Verdict")
    rows = [
        (
            c.subject,
            f"{c.a} − {c.b}",
            difference(c, metric),
            str(len(c.differences)) + (f", {c.lost} lost" if c.lost else ""),
            chance(c.p),
            chance(c.holm) if place else "judged alone",
            verdict(c, metric, found.margin),
        )
        for place, c in enumerate(judged)
    ]
    return Table(head, rows)


def difference(judged: Judged, metric: Metric) -> str:
    """Mean difference and interval.

    Example:
        >>> difference(Judged("a", "b", "", {0: 1.0, 1: 1.0}, 0), Metric("mse", False, 1))
        '+1.0 [+1.0, +1.0]'
    """
    e = judged.estimate
    if e is None:
        return DASH
    if e.low is None or e.high is None:
        return metric.signed(e.mean)
    return f"{metric.signed(e.mean)} [{metric.signed(e.low)}, {metric.signed(e.high)}]"


def chance(p: float | None) -> str:
    r"""A p value.

    Example:
        >>> chance(0.0312), chance(0.00001), chance(None)
        ('0.031', '<\xa00.001', '–')
    """
    if p is None:
        return DASH
    return "<\N{NO-BREAK SPACE}0.001" if p < 0.001 else f"{p:.2g}"


def arms(found: Ablated) -> Table:
    """What was trained, how it ended, and how its looks were aligned.

    Example:
        >>> arms(Ablated({"task": "digits"}, (), {}, ())).head[1]
        'Rate'
    """
    metric = found.metric
    looked = any(sharpness(arm) for arm in found.arms)
    head = ["Arm", "Rate", "alpha", f"Test {metric.label}, mean ± sd", "95% interval", "Seeds"]
    head += ["Offset / weight", *(LOOKED if looked else ())]
    return Table(head, [_arm(arm, metric, looked) for arm in found.arms])


def _arm(arm: Arm, metric: Metric, looked: bool) -> list[str]:
    e = arm.estimate
    value = DASH if e is None else metric.value(e.mean)
    if e is not None and e.sd is not None:
        value += f" ± {metric.plain(e.sd)}"
    edge = " (at the grid’s edge)" if arm.choice.get("at_edge") else ""
    cells = [
        f"{arm.name}: {arm.title}",
        brief(number(arm.choice.get("lr"))) + edge,
        brief(number(arm.choice.get("alpha"))),
        value,
        interval(e, metric).removeprefix("95% interval ") if e else DASH,
        f"{len(arm.finished)}" + (f", {arm.diverged} diverged" if arm.diverged else ""),
        brief(_offset(arm)),
    ]
    if looked:
        for of in (OFFSETS, GRADIENTS):
            share = mean_share(arm, of)
            cells.append(DASH if share is None else percent(share.mean))
        sharp = sharpness(arm)
        cells.append(DASH if sharp is None else brief(sharp.mean) + _spread(sharp.sd))
    return cells


def _spread(sd: float | None) -> str:
    return "" if sd is None else f" ± {brief(sd)}"


def _offset(arm: Arm) -> float | None:
    ratios = [number((run.result or {}).get("offset_to_weight_norm")) for run in arm.runs]
    known = [ratio for ratio in ratios if ratio is not None]
    return sum(known) / len(known) if known else None


def power_table(found: Ablated) -> Table:
    """The power calculation, what it assumed and what it gave.

    Example:
        >>> power_table(Ablated({"task": "digits"}, (), {"pairs": 9}, ())).rows[-1][1]
        '9'
    """
    power, metric = found.power, found.metric

    def size(key: str) -> str:
        value = number(power.get(key))
        return DASH if value is None else metric.sized(f"{value:.2g}".replace("-", MINUS))

    def whole(key: str) -> str:
        value = number(power.get(key))
        return DASH if value is None else count(value)

    def chance_of(key: str) -> str:
        value = number(power.get(key))
        return DASH if value is None else f"{100 * value:.0f}%"

    rows = (
        ("Pairs of seeds in the pilot, on validation data", whole("pilot_pairs")),
        ("Standard deviation of their differences", size("pilot_sd")),
        (f"What it stays below with {chance_of('sd_confidence')} confidence: assumed", size("sd")),
        ("Gain over none in the pilot", size("pilot_gain")),
        ("Smallest difference worth knowing", f"{size('detect')} ({power.get('detect_source')})"),
        ("Power wanted, at 5% two-sided", chance_of("power")),
        ("Pairs to see that difference", whole("pairs_to_see")),
        ("Pairs to rule it out where there is none", whole("pairs_to_rule_out")),
        ("Standard deviation of the differences in the final runs", _found(found)),
        (f"Pairs run{_limit(str(power.get('limit') or ''))}", whole("pairs")),
    )
    return Table(("Assumed or found", "Value"), rows)


def _found(found: Ablated) -> str:
    seen = found_spread(found)
    return DASH if seen is None else found.metric.sized(f"{seen:.2g}")


def _limit(limit: str) -> str:
    return {
        "": "",
        "max_seeds": ", the most that were allowed",
        "given": ", as given on the command line",
    }.get(limit, f", because {limit}")


def power_words(found: Ablated) -> str:
    """What the run number of pairs can do, in a sentence.

    Example:
        >>> power_words(Ablated({"task": "digits"}, (), {}, ()))
        'The number of pairs is not known yet: the pilot has not finished.'
    """
    power = found.power
    pairs, margin = number(power.get("pairs")), found.margin
    if pairs is None:
        return "The number of pairs is not known yet: the pilot has not finished."
    see, out = number(power.get("power_to_see")), number(power.get("power_to_rule_out"))
    if see is None or out is None or margin is None:
        return f"The pilot gave no spread to plan with: {count(pairs)} pairs were run without."
    points = found.metric.sized(f"{margin:.2g}")
    return (
        f"With {count(pairs)} pairs and the assumed spread, a true difference of {points} is seen "
        f"with a chance of {100 * see:.0f}%, and if there is no difference at all, one larger than "
        f"{points} is ruled out with a chance of {100 * out:.0f}%.{_spread_more(found)}"
    )


def _spread_more(found: Ablated) -> str:
    """Says that a pilot of few pairs has missed much of the spread, and the chances with it."""
    assumed, seen = number(found.power.get("sd")), found_spread(found)
    if not assumed or seen is None or seen <= assumed:
        return ""
    return (
        f" The final runs’ differences spread by {seen:.2g}, where {assumed:.2g} was assumed: the "
        "chances are smaller."
    )


def found_spread(found: Ablated) -> float | None:
    """Standard deviation of the question's differences in the final runs.

    Example:
        >>> found_spread(Ablated({"task": "digits", "contrasts": []}, (), {}, ())) is None
        True
    """
    judged = judge(found)
    e = judged[0].estimate if judged else None
    return None if e is None else e.sd


def asked(found: Ablated) -> list[tuple[str, str]]:
    """The question as pairs of name and value.

    Example:
        >>> asked(Ablated({"task": "digits", "batch_size": 1024}, (), {}, ()))
        [('Task', 'digits'), ('Batch', '1,024')]
    """
    q = found.question
    numbers = (
        ("Batch", "batch_size"), ("Worker's own batch", "worker_size"), ("Epochs", "epochs"),
        ("Epochs while tuning", "tuning_epochs"), ("Training examples", "train_examples"),
        ("Training examples while tuning", "tuning_examples"),
        ("Validation examples", "validation_examples"), ("Test examples", "test_examples"),
    )  # fmt: skip
    pairs = [("Task", f"{q['task_title']} ({q['task']})" if q.get("task_title") else q["task"])]
    pairs += [(name, count(v)) for name, key in numbers if (v := number(q.get(key))) is not None]
    pairs += [("Tuning seeds", _seeds(q.get("tuning_seeds")))]
    pairs += [("Pilot seeds", _seeds(q.get("pilot_seeds")))]
    pairs += [("Trials of each tuned method", _trials(found))]
    return [(name, str(value)) for name, value in pairs if value]


def _seeds(seeds: object) -> str:
    return f"{len(seeds)}, from {seeds[0]}" if isinstance(seeds, list) and seeds else ""


def _trials(found: Ablated) -> str:
    spent = sorted({int(t) for arm in found.arms if (t := number(arm.choice.get("trials")))})
    return " to ".join(map(count, spent))
