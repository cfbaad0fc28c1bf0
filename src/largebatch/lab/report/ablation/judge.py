"""The rule an ablation is decided by, fixed before it is run.

    matters      the 95% interval of the paired difference leaves zero out
    no matter    it lies within the margin, the smallest difference worth knowing
    undecided    neither: more pairs are needed

The first contrast is the question and is judged at 95% by itself. The others help to read it and
are judged together: a difference counts with Holm's adjusted p below 5% (Holm 1979), and the margin
must hold the interval at Bonferroni's level.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy.stats import t as student

from largebatch.lab.report.ablation.read import Ablated, Arm
from largebatch.lab.report.metric import Metric
from largebatch.lab.report.power import pairs_to_decide
from largebatch.lab.report.stats import (
    CONFIDENCE,
    SEEDS_FOR_A_VERDICT,
    Estimate,
    common,
    estimate,
)

LEVEL = 1 - CONFIDENCE


@dataclass(frozen=True)
class Judged:
    """One contrast: the differences a - b by seed, and what the rule says of them.

    Attributes:
        differences: by seed.
        lost: pairs that have no difference because a run of theirs diverged.
        strict: the interval that must lie within the margin; the same as the estimate's where a
            contrast is judged by itself.
        p: two-sided, of Student's paired t.
        holm: p adjusted for the contrasts that are judged together.
        kind: "matters", "no matter", "undecided", "" where there are too few pairs.
        to_decide: pairs that would decide, where it is undecided.

    Example:
        >>> Judged("gnc", "matched", "direction", {}, 0).estimate is None
        True
    """

    a: str
    b: str
    subject: str
    differences: dict[int, float]
    lost: int
    strict: Estimate | None = None
    p: float | None = None
    holm: float | None = None
    kind: str = ""
    to_decide: int | None = None

    @property
    def estimate(self) -> Estimate | None:
        """Mean difference with its 95% interval."""
        return estimate(list(self.differences.values())) if self.differences else None


def judge(found: Ablated) -> list[Judged]:
    """Every contrast, the question first.

    Example:
        >>> judge(Ablated({"task": "digits", "contrasts": []}, (), {}, ()))
        []
    """
    contrasts = [_contrast(c, found) for c in found.question.get("contrasts", ())]
    if not contrasts:
        return []
    first, others = contrasts[0], contrasts[1:]
    adjusted = holm([c.p for c in others])
    confidence = 1 - LEVEL / max(1, sum(c.p is not None for c in others))
    made = [_decided(replace(first, holm=first.p, strict=first.estimate), found.margin)]
    for contrast, p in zip(others, adjusted, strict=True):
        values = list(contrast.differences.values())
        strict = estimate(values, confidence) if values else None
        made.append(_decided(replace(contrast, holm=p, strict=strict), found.margin))
    return made


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p: the smallest times their number, the next times one less, never falling.

    Example:
        >>> [round(p, 2) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    known = sorted((p, place) for place, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = largest
    return adjusted


def p_value(differences: Sequence[float]) -> float | None:
    """Two-sided p of Student's paired t; None for fewer than two pairs.

    Example:
        >>> round(p_value([1.0, 2.0, 3.0]), 4)
        0.0742
    """
    if len(differences) < 2:
        return None
    e = estimate(differences)
    if not e.sd:
        return 0.0 if e.mean else 1.0
    return float(2 * student.sf(abs(e.mean) / e.sd * math.sqrt(e.n), e.n - 1))


def gained(judged: Judged, metric: Metric) -> float:
    """What a is better by than b, in the metric's units.

    Example:
        >>> metric = Metric("mse", False, 1)
        >>> gained(Judged("a", "b", "", {0: -1.0}, 0), metric)
        1.0
    """
    e = judged.estimate
    return metric.sign * e.mean if e else 0.0


def _contrast(asked: dict[str, str], found: Ablated) -> Judged:
    a, b = found.arm(asked["a"]), found.arm(asked["b"])
    differences = {s: a.finished[s] - b.finished[s] for s in common(a.finished, b.finished)}
    lost = len(_both(a, b)) - len(differences)
    p = p_value(list(differences.values()))
    return Judged(asked["a"], asked["b"], asked["subject"], differences, lost, p=p)


def _both(a: Arm, b: Arm) -> set[int]:
    return set(a.values) & set(b.values)


def _decided(judged: Judged, margin: float | None) -> Judged:
    e, strict = judged.estimate, judged.strict
    if e is None or strict is None or e.n < SEEDS_FOR_A_VERDICT or judged.holm is None:
        return judged
    if judged.holm < LEVEL:
        return replace(judged, kind="matters")
    low, high = strict.low, strict.high
    if margin and low is not None and high is not None and -margin <= low and high <= margin:
        return replace(judged, kind="no matter")
    needed = pairs_to_decide(margin, e.sd) if margin and e.sd else None
    return replace(judged, kind="undecided", to_decide=needed)
