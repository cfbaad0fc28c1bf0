"""What an ablation asks, complete and typed; as JSON it is the folder's ``ablate.json``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..compare.question import MOST_SEEDS, Question, question_for
from ..config import check_seed
from ..errors import InputError, nearest
from ..probes import asked
from ..tasks import resolve
from .arms import ABLATIONS, Design

__all__ = ["ABLATIONS", "SCALES", "Ablation", "ablation_for"]

LEAST_PAIRS = 5
"""Fewer than a report gives a verdict on."""


@dataclass(frozen=True)
class Scale:
    """How much computing an ablation may take, beside what a comparison's scale says."""

    tuning_seeds: int
    pilot_seeds: int
    max_seeds: int


SCALES = {
    "smoke": Scale(tuning_seeds=1, pilot_seeds=2, max_seeds=2),
    "short": Scale(tuning_seeds=3, pilot_seeds=8, max_seeds=40),
    "full": Scale(tuning_seeds=5, pilot_seeds=16, max_seeds=200),
}


@dataclass(frozen=True)
class Ablation:
    """Everything an ablation is: the same one in the same folder goes on where it stopped.

    Attributes:
        ablation: its name.
        question: what is tuned and how runs are made: a comparison at one batch size.
        pilot_seeds: of the pilot's runs on validation data; none is tuning's or a final run's.
        pairs: number of final pairs of seeds; None for the power calculation's.
        max_seeds: most pairs that the power calculation may ask for.
        detect: the smallest difference worth knowing, in the metric's units; None for half of what
            the method gains over none in the pilot.
        power: chance to see such a difference, or to rule it out where there is none.
        looks: before which steps final runs measure the design's probe, each a WHEN.
        look_seeds: how many seeds of each arm measure it, the first ones.
        look_examples: training examples that it takes the Hessian on.
    """

    ablation: str
    question: Question
    pilot_seeds: tuple[int, ...]
    pairs: int | None
    max_seeds: int
    detect: float | None
    power: float
    looks: tuple[str, ...]
    look_seeds: int
    look_examples: int
    format: int = 1

    def __post_init__(self) -> None:
        """Check what needs no data."""
        for name in ("pairs", "max_seeds"):
            value = getattr(self, name)
            if value is not None and not 2 <= value <= MOST_SEEDS:
                said = "seeds" if name == "pairs" else name
                raise InputError(
                    f"{said} must be 2 to {MOST_SEEDS:,}, got {value}: a difference of paired "
                    f"seeds needs two, and a verdict {LEAST_PAIRS}"
                )
        if len(self.pilot_seeds) < 2:
            raise InputError(
                f"a pilot needs 2 seeds or more for a spread, got {len(self.pilot_seeds)}"
            )
        if self.detect is not None and not 0 < self.detect < math.inf:
            raise InputError(f"detect must be above 0 and finite, got {self.detect}")
        if not 0.5 <= self.power < 1:
            raise InputError(f"power must be at least 0.5 and below 1, got {self.power}")
        check_seed(max(self.pilot_seeds))
        for look in self.looks:
            asked(f"{self.design.probe}@{look}")

    def probes(self, seed: int) -> tuple[str, ...]:
        """What the final run of a seed measures of itself, each NAME@WHEN."""
        looks = seed < self.question.seeds[0] + self.look_seeds
        return tuple(f"{self.design.probe}@{look}" for look in self.looks) if looks else ()

    @property
    def design(self) -> Design:
        """What is trained and held against what."""
        return ABLATIONS[self.ablation]

    @property
    def batch_size(self) -> int:
        """Examples of an update, in all arms."""
        return self.question.batch_sizes[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the question's beside the ablation's own."""
        question = self.question.to_dict()
        for left_out in ("seeds", "methods", "batch_sizes", "small_batch", "format"):
            del question[left_out]
        own = {
            "pilot_seeds": list(self.pilot_seeds), "first_seed": self.question.seeds[0],
            "seeds": self.pairs, "max_seeds": self.max_seeds, "detect": self.detect,
            "power": self.power, "looks": list(self.looks),
            "look_seeds": self.look_seeds, "look_examples": self.look_examples,
            "format": self.format,
        }  # fmt: skip
        design = asdict(self.design)
        made = {"title": design["title"], "tuned": list(self.design.tuned)}
        made |= {k: list(design[k]) for k in ("arms", "contrasts", "gain")}
        return {"ablation": self.ablation, "batch_size": self.batch_size, **question, **own, **made}


def ablation_for(
    name: str,
    task_name: str = "digits",
    scale: str = "short",
    seed: int = 0,
    *,
    batch_size: int | None = None,
    pilot_seeds: int | None = None,
    seeds: int | None = None,
    max_seeds: int | None = None,
    detect: float | None = None,
    power: float = 0.8,
    looks: Sequence[str] | None = None,
    look_seeds: int = 10,
    look_examples: int = 256,
    **given: Any,
) -> Ablation:
    """The ablation of that name on a task at a scale; what is not None replaces defaults.

    Args:
        name: of an ablation, "gnc".
        task_name: a task's name.
        scale: "smoke", "short" or "full".
        seed: first of the final runs' seeds.
        batch_size: the task's largest unless given.
        pilot_seeds: number of the pilot's.
        seeds: number of final pairs, instead of the power calculation's.
        max_seeds: as in :class:`Ablation`, and so are detect, power and look_examples.
        detect: see there.
        power: see there.
        looks: see there; in the middle of the run and at its end unless given.
        look_seeds: see there.
        look_examples: see there.
        given: fields of a comparison's :class:`~largebatch.lab.compare.Question`.

    Example:
        >>> found = ablation_for("gnc", seeds=20)
        >>> found.batch_size, found.pairs, found.looks
        (1024, 20, ('20epochs', 'end'))
    """
    if name not in ABLATIONS:
        raise InputError(f"no ablation {name!r}: {nearest(name, ABLATIONS)}")
    if scale not in SCALES:
        raise InputError(f"unknown scale {scale!r}: choose {', '.join(SCALES)}")
    preset, task = SCALES[scale], resolve(task_name)
    batch = batch_size or max(task.batch_sizes)
    most = max_seeds or max(preset.max_seeds, seeds or 0)
    given["tuning_seeds"] = given.get("tuning_seeds") or preset.tuning_seeds
    given["worker_size"] = given.get("worker_size") or task.small_batch
    # With the small batch equal to the large one, the reference is the arm without noise.
    sizes = {"batch_sizes": (batch,), "small_batch": batch, "methods": ABLATIONS[name].tuned}
    question = question_for(task_name, scale, seed, seeds=min(most, MOST_SEEDS), **sizes, **given)
    if given.get("evaluations") is None:
        question = replace(question, evaluations=min(10, question.epochs))
    first, count = seed + 2 * MOST_SEEDS, pilot_seeds or preset.pilot_seeds
    return Ablation(
        ablation=name,
        question=question,
        pilot_seeds=tuple(range(first, first + min(count, MOST_SEEDS))),
        pairs=seeds,
        max_seeds=most,
        detect=detect,
        power=power,
        looks=(f"{-(-question.epochs // 2)}epochs", "end") if looks is None else tuple(looks),
        look_seeds=look_seeds,
        look_examples=look_examples,
    )
