"""The number of pairs of an ablation, from its pilot.

    worth knowing   half of what the method gains over none, and at least a fifth of the standard
                    deviation of none over seeds ("small" in Cohen 1988), and one test example
    spread          the upper 80% limit of the standard deviation of the question's paired
                    differences
    pairs           enough to see a difference worth knowing, and to rule it out if there is none,
                    each with the asked power; at least five, at most max_seeds

All on validation examples, with seeds that neither tuning nor the final runs have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..report.power import pairs_to_rule_out, pairs_to_see, ruling_out, seeing, upper
from ..report.stats import estimate, paired_difference
from .question import LEAST_PAIRS, Ablation

__all__ = ["CONFIDENCE", "SMALL", "planned"]

SMALL = 0.2
"""Of a standard deviation: a difference that luck with one seed exceeds five times in six."""
CONFIDENCE = 0.8

Values = Mapping[str, Mapping[int, float | None]]


def planned(ablation: Ablation, pilot: Values, resolution: float, sign: int) -> dict[str, Any]:
    """The power calculation as ``power.json`` has it.

    Args:
        ablation: what is asked.
        pilot: values of the pilot's arms by seed, None where a run diverged.
        resolution: the smallest difference that the test examples can show, 0 if there is none.
        sign: 1 where a higher value is better, else -1.
    """
    design = ablation.design
    question = design.contrasts[0]
    differences = paired_difference(pilot[question.a], pilot[question.b])
    paired = paired_difference(pilot[design.gain[0]], pilot[design.gain[1]])
    gained = None if paired is None else sign * paired.mean
    none = _spread(pilot[design.gain[1]])
    detect, source = _worth_knowing(ablation, gained, none, resolution)
    found = None if differences is None else differences.sd
    spread = (
        None if found is None or differences is None else upper(found, differences.n, CONFIDENCE)
    )
    counts = _counts(ablation, detect, spread)
    known = {"sd": spread, "detect": detect} if spread is not None and detect else None
    return {
        "pilot": {arm: {str(seed): v for seed, v in of.items()} for arm, of in pilot.items()},
        "pilot_pairs": 0 if differences is None else differences.n,
        "pilot_difference": None if differences is None else differences.mean,
        "pilot_gain": gained,
        "pilot_sd": found, "none_sd": none, "sd": spread, "sd_confidence": CONFIDENCE,
        "detect": detect, "detect_source": source, "power": ablation.power, "level": 0.05,
        **counts,
        "power_to_see": known and seeing(counts["pairs"], known["detect"], known["sd"]),
        "power_to_rule_out": known and ruling_out(counts["pairs"], known["detect"], known["sd"]),
    }  # fmt: skip


def _spread(values: Mapping[int, float | None]) -> float | None:
    finished = [v for v in values.values() if v is not None]
    return estimate(finished).sd if finished else None


def _worth_knowing(
    ablation: Ablation, gained: float | None, none: float | None, resolution: float
) -> tuple[float | None, str]:
    """The smallest difference worth knowing and where it comes from; None where nothing says."""
    if ablation.detect is not None:
        return ablation.detect, "given"
    sizes = {
        "half of the gain over none in the pilot": (gained or 0.0) / 2,
        "a fifth of the standard deviation of none in the pilot": SMALL * (none or 0.0),
        "one test example": resolution,
    }
    source = max(sizes, key=lambda name: sizes[name])
    return (sizes[source], source) if sizes[source] > 0 else (None, "the pilot does not say")


def _counts(ablation: Ablation, detect: float | None, spread: float | None) -> dict[str, Any]:
    """The pairs that each aim takes, and those that are run, and why so many."""
    if spread is None or not detect:
        return {
            "pairs_to_see": None, "pairs_to_rule_out": None,
            "pairs": ablation.pairs or ablation.max_seeds,
            "limit": "given" if ablation.pairs else "the pilot gave no spread",
        }  # fmt: skip
    see = pairs_to_see(detect, spread, ablation.power)
    rule_out = pairs_to_rule_out(detect, spread, ablation.power)
    wanted = max(see, rule_out, LEAST_PAIRS)
    pairs, limit = min(wanted, ablation.max_seeds), ""
    if ablation.pairs is not None:
        pairs, limit = ablation.pairs, "given"
    elif wanted > ablation.max_seeds:
        limit = "max_seeds"
    return {"pairs_to_see": see, "pairs_to_rule_out": rule_out, "pairs": pairs, "limit": limit}
