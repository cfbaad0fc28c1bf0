"""The finding in words, from the judged contrasts."""

from largebatch.lab.report.ablation.judge import Judged, gained
from largebatch.lab.report.ablation.read import Ablated
from largebatch.lab.report.finding import interval
from largebatch.lab.report.metric import Metric, brief, count
from largebatch.lab.report.read import number
from largebatch.lab.report.stats import SEEDS_FOR_A_VERDICT


def verdict(judged: Judged, metric: Metric, margin: float | None) -> str:
    """The rule's answer in a few words.

    Example:
        >>> metric = Metric("accuracy_percent", True, 1)
        >>> verdict(Judged("a", "b", "it", {}, 0, kind="undecided", to_decide=99), metric, 0.5)
        'undecided: would take about 99 pairs'
    """
    if judged.kind == "matters":
        better = "better" if gained(judged, metric) > 0 else "worse"
        return f"matters: {better}{_smaller(judged, metric, margin)}"
    if judged.kind == "no matter" and margin is not None:
        return f"no difference larger than {metric.points(margin)} is compatible with the data"
    if judged.kind == "undecided":
        more = judged.to_decide
        return "undecided" + (f": would take about {count(more)} pairs" if more else "")
    pairs = len(judged.differences)
    return f"no verdict: {pairs} of the {SEEDS_FOR_A_VERDICT} pairs of seeds it takes"


def headline(judged: Judged, found: Ablated) -> list[str]:
    """Sentences that answer the question.

    Example:
        >>> judged = Judged("gnc", "matched", "the direction", {}, 0)
        >>> headline(judged, Ablated({"task": "digits"}, (), {}, ()))
        ['On digits nothing can be said yet: no pair of seeds has finished.']
    """
    metric, e = found.metric, judged.estimate
    task = str(found.question["task"])
    if e is None:
        return [f"On {task} nothing can be said yet: no pair of seeds has finished."]
    size = metric.sized(metric.signed(e.mean))
    pairs = f"{e.n} pairs of seeds" if e.n != 1 else "1 pair of seeds"
    over = f"over {pairs}{_settings(judged, found)}"
    measured = f"{judged.a} minus {judged.b} is {size} ({interval(e, metric)}) {over}"
    return [f"On {task}, {_answer(judged, found)} {_capital(measured)}.", *_lost(judged, found)]


def beside(judged: Judged, found: Ablated) -> str:
    """Another contrast in a line, to read the answer with.

    Example:
        >>> judged = Judged("rnc", "none", "random noise", {}, 0)
        >>> beside(judged, Ablated({"task": "digits"}, (), {}, ()))
        'random noise (rnc − none): no pair of seeds has finished'
    """
    start = f"{judged.subject} ({judged.a} − {judged.b})"
    if judged.estimate is None:
        return f"{start}: no pair of seeds has finished"
    size = found.metric.signed(judged.estimate.mean)
    unit = " points" if found.metric.percent else ""
    return f"{start}: {size}{unit}; {verdict(judged, found.metric, found.margin)}"


def _answer(judged: Judged, found: Ablated) -> str:
    metric, margin, subject = found.metric, found.margin, judged.subject
    if judged.kind == "matters":
        how = "for the better" if gained(judged, metric) > 0 else "for the worse"
        return f"{subject} matters, {how}{_smaller(judged, metric, margin)}."
    if judged.kind == "no matter" and margin is not None:
        return (
            f"no effect of {subject} larger than {metric.points(margin)} is compatible with the "
            "data."
        )
    if judged.kind == "undecided":
        more = judged.to_decide
        need = f" Deciding it would take about {count(more)} pairs." if more else ""
        return f"it stays undecided whether {subject} matters.{need}"
    least = SEEDS_FOR_A_VERDICT
    return f"there are too few pairs to say whether {subject} matters: a verdict takes {least}."


def _settings(judged: Judged, found: Ablated) -> str:
    """The rate and alpha that both arms share, since the answer is one at these."""
    a, b = (found.arm(name).choice for name in (judged.a, judged.b))
    same = [
        f"{word} {brief(value)}"
        for word, key in (("rate", "lr"), ("alpha", "alpha"))
        if (value := number(a.get(key))) is not None and value == number(b.get(key))
    ]
    return f", both at {' and '.join(same)}" if same else ""


def _smaller(judged: Judged, metric: Metric, margin: float | None) -> str:
    """Says that a difference, though there, is less than worth knowing."""
    e = judged.estimate
    if margin is None or e is None or e.low is None or e.high is None:
        return ""
    inside = -margin <= e.low and e.high <= margin
    return f", but by less than {metric.points(margin)}" if inside else ""


def _lost(judged: Judged, found: Ablated) -> list[str]:
    if not judged.lost:
        return []
    said = [
        f"{arm.diverged} of {judged.a if arm.name == judged.a else judged.b}"
        for arm in (found.arm(judged.a), found.arm(judged.b))
        if arm.diverged
    ]
    return [
        f"{judged.lost} pairs are missing because runs diverged ({', '.join(said)}): a difference "
        "over the others flatters the arm that diverges."
    ]


def _capital(text: str) -> str:
    """As a sentence begins; names of three letters are written in capitals."""
    head, _, rest = text.partition(" ")
    return f"{head.upper() if len(head) <= 3 else head.capitalize()} {rest}"
