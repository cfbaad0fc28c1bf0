"""Writes an ablation's report.html: one file, offline, made anew from its folder alone."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from largebatch.lab.report import facts
from largebatch.lab.report.ablation import tables
from largebatch.lab.report.ablation.alignment import by_seed, isotropic, over_time, percent
from largebatch.lab.report.ablation.judge import Judged, judge
from largebatch.lab.report.ablation.plot import Dots, Frame, dots
from largebatch.lab.report.ablation.read import Ablated, Arm, read_ablation
from largebatch.lab.report.ablation.words import beside, headline, verdict
from largebatch.lab.report.finding import interval
from largebatch.lab.report.metric import count
from largebatch.lab.report.scales import padded
from largebatch.lab.report.shell import filled, put
from largebatch.lab.report.stats import Estimate, estimate

WIDE, NARROW = 760, 340


def write_report(folder: Path) -> Path:
    """Write `folder`/report.html from the ablation in `folder`, replacing an older one at once.

    Args:
        folder: What ``largebatch ablate --out`` wrote, finished or not.

    Raises:
        FileNotFoundError: there is no ablate.json in it.
        ValueError: a file in it is not what its name says.

    Example:
        >>> write_report(Path("nowhere"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: a report needs nowhere/ablate.json, which is not there: ...
    """
    return put(folder / "report.html", render(read_ablation(folder)))


def render(found: Ablated) -> str:
    """The page as text.

    Example:
        >>> question = {"task": "<b>", "title": "why?", "contrasts": []}
        >>> "<h1>&lt;b&gt;: why?" in render(Ablated(question, (), {}, ()))
        True
    """
    judged, question = judge(found), found.question
    comparison = found.as_comparison
    return filled(
        "ablation.html.j2",
        title=f"{question.get('task_title') or question['task']}: {question['title']}",
        finding=headline(judged[0], found) if judged else [],
        beside=[beside(each, found) for each in judged[1:] if each.a == judged[0].a],
        unfinished=_unfinished(found),
        differences=[difference_dots(judged, found, width) for width in (WIDE, NARROW)],
        margin=found.margin,
        metric=found.metric,
        contrasts=tables.contrasts(judged, found),
        arms=tables.arms(found),
        values=_values(found),
        alignment=_alignment(found),
        looks=over_time(found),
        power=tables.power_table(found),
        power_words=tables.power_words(found),
        asked=tables.asked(found),
        command=question.get("command"),
        diverged=facts.diverged_table(comparison),
        environment=facts.environment_table(comparison),
    )


def difference_dots(judged: Sequence[Judged], found: Ablated, width: int) -> Markup:
    """Paired differences by contrast, the margin behind them.

    Example:
        >>> difference_dots([], Ablated({"task": "digits"}, (), {}, ()), 340)[:4]
        Markup('<svg')
    """
    kind = "wide" if width == WIDE else "narrow"
    return dots(difference_rows(judged, found), difference_frame(found), width, kind)


def difference_frame(found: Ablated) -> Frame:
    """What is around the differences."""
    metric, margin = found.metric, found.margin
    unit = " (points)" if metric.percent else ""
    return Frame(
        "Paired differences by contrast",
        f"difference in test {metric.label}{unit}",
        zero=0.0,
        band=None if margin is None else (-margin, margin),
        band_words="" if margin is None else f"± {margin:.2g}, not worth knowing",
    )


def difference_rows(judged: Sequence[Judged], found: Ablated) -> list[Dots]:
    """A row for each contrast, the question first."""
    metric = found.metric
    return [
        Dots(
            f"{c.a} − {c.b}",
            tables.difference(c, metric),
            f"{c.a} minus {c.b}, {c.subject}: {tables.difference(c, metric)} over "
            f"{len(c.differences)} pairs; {verdict(c, metric, found.margin)}",
            c.estimate,
            c.differences,
            "method" if place else "best",
        )
        for place, c in enumerate(judged)
    ]


def _values(found: Ablated) -> Markup:
    """Accuracy by arm."""
    metric = found.metric
    rows = [
        Dots(
            arm.name,
            "no result yet" if e is None else f"{metric.value(e.mean)}{_spread(found, e)}",
            f"{arm.title}: "
            + ("no result yet" if e is None else f"{metric.value(e.mean)}; {interval(e, metric)}"),
            e,
            arm.finished,
            _role(arm, found),
        )
        for arm in found.arms
        for e in (arm.estimate,)
    ]
    return dots(rows, Frame(f"Final test {metric.label} by arm", f"test {metric.axis}"), NARROW)


def _spread(found: Ablated, e: Estimate) -> str:
    return "" if e.sd is None else f" ± {found.metric.plain(e.sd)}"


def _alignment(found: Ablated) -> Markup | None:
    """Share of the offsets' variance in the top eigenvectors, by arm."""
    null = isotropic(found)
    if null is None:
        return None
    rows = []
    for arm in found.arms:
        values = {seed: 100 * share for seed, share in by_seed(arm).items()}
        e = estimate(list(values.values())) if values else None
        said = "no offsets" if e is None else percent(e.mean / 100)
        rows.append(Dots(arm.name, said, f"{arm.title}: {said}", e, values, _role(arm, found)))
    axis = f"% of the offsets’ variance in the top {null[1]} eigenvectors"
    seen = [v for row in rows for v in (0.0, *row.values.values())]
    frame = Frame("Alignment by arm", axis, zero=100 * null[0], limits=padded(seen))
    return dots(rows, frame, NARROW)


def _role(arm: Arm, found: Ablated) -> str:
    """The question's arms stand out; what has no noise is a baseline."""
    first = found.question["contrasts"][0]
    if arm.name == first["a"]:
        return "best"
    return "baseline" if arm.choice.get("method") == "msgd" else "method"


def _unfinished(found: Ablated) -> str:
    left = sum(max(found.pairs - len(arm.values), 0) for arm in found.arms)
    if not found.pairs:
        return "the number of pairs is not known yet"
    total = found.pairs * len(found.arms)
    return f"{count(left)} of {count(total)} final runs have no result yet" if left else ""
