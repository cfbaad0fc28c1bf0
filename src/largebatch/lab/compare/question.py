"""What a comparison asks, complete and typed; as JSON it is the folder's ``compare.json``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ..config import BatchesConfig, RunConfig, ScheduleConfig, check_seed
from ..errors import InputError
from ..growth import doubling
from ..methods import parse
from ..tasks import Task, resolve

__all__ = ["METHODS", "REFERENCE", "SCALES", "Pair", "Question", "question_for"]

REFERENCE = "msgd"
METHODS = (
    "msgd",
    "nesterov",
    "adamw",
    "lars",
    "sngm",
    "gnc",
    "rnc",
    "sngm+gnc",
    "msgd+longer",
)
Pair = tuple[str, int]
"""Method and batch size."""
MOST_STEPS = 12
"""Of a grid in each direction, and of its widenings: beyond, trials could not be told apart."""
MOST_SEEDS = 1000
"""Final runs' seeds count from the first, tuning's from this much further."""


@dataclass(frozen=True)
class Scale:
    """How much computing a comparison may take: upper bounds of epochs, seeds and grids."""

    epochs: int
    seeds: int
    tuning_seeds: int
    widenings: int


SCALES = {
    "smoke": Scale(epochs=2, seeds=2, tuning_seeds=1, widenings=0),
    "short": Scale(epochs=40, seeds=5, tuning_seeds=1, widenings=2),
    "full": Scale(epochs=10_000, seeds=5, tuning_seeds=3, widenings=3),
}


@dataclass(frozen=True)
class Question:
    """Everything a comparison is: the same question in the same folder goes on where it stopped.

    Attributes:
        task: as on the command line.
        methods: ids; "msgd", the baseline of every comparison, is always among them.
        small_batch: batch size of the reference, momentum SGD.
        batch_sizes: the large ones.
        worker_size: examples of one worker.
        epochs: of a final run.
        tuning_epochs: of a trial; fewer is cheaper and biased towards early progress.
        seeds: of the final runs, paired over methods.
        tuning_seeds: of the trials, none of them a final run's.
        rates: coarse rates of a grid at first, a factor of two apart; every grid has as many
            trials as rates times alphas.
        alphas: alphas of a grid at first, a factor of three apart.
        widenings: how often grids may be widened because a choice lies at the edge of one.
        warmup: share of a run that is linear warm-up, before a cosine to zero.
        momentum: of all rules that take one from here.
        weight_decay: likewise.
        train_size: first training examples to use; None for all.
        evaluations: scores during a final run.
        scale: the preset that this started from.
        device: of all runs.
        threads: of one run.
    """

    task: str
    methods: tuple[str, ...]
    small_batch: int
    batch_sizes: tuple[int, ...]
    worker_size: int
    epochs: int
    tuning_epochs: int
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    rates: int = 3
    alphas: int = 3
    widenings: int = 3
    warmup: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    train_size: int | None = None
    evaluations: int = 40
    scale: str = "short"
    device: str = "cpu"
    threads: int = 1
    format: int = 4  # runs have a noise dtype, so that those of a folder of less have other names

    def __post_init__(self) -> None:
        """Check what needs no data."""
        for method in self.methods:
            parse(method)
        for name, least in (("rates", 1), ("alphas", 1), ("widenings", 0)):
            if not least <= (value := getattr(self, name)) <= MOST_STEPS:
                raise InputError(f"{name} must be {least} to {MOST_STEPS}, got {value}")
        for seed in (*self.seeds, *self.tuning_seeds):
            check_seed(seed)
        if set(self.seeds) & set(self.tuning_seeds):
            raise InputError("a seed is used for tuning and for final runs: choose distinct ones")
        if not self.seeds or not self.tuning_seeds:
            raise InputError("a comparison needs at least one seed and one tuning seed")

    def pairs(self) -> Iterator[Pair]:
        """The reference first, then every method at every batch size."""
        reference = (REFERENCE, self.small_batch)
        yield reference
        for batch in self.batch_sizes:
            for method in self.methods:
                asked = parse(method)
                longer_than_itself = asked.longer and batch == self.small_batch
                cannot_grow = asked.grow and batch <= self.small_batch
                if (method, batch) != reference and not longer_than_itself and not cannot_grow:
                    yield method, batch

    def run(self, pair: Pair, split: Literal["test", "validation"], examples: int) -> RunConfig:
        """The configuration of one run of ``pair``, but for rate, alpha and seed."""
        method, batch = pair
        tuning = split == "validation"
        epochs = self.tuning_epochs if tuning else self.epochs
        updates = None
        asked = parse(method)
        if asked.longer:
            updates = epochs * (examples // self.small_batch)
        horizon = epochs if updates is None else updates / max(1, examples // batch)
        return RunConfig(
            task=self.task,
            method=method,
            batch_size=batch,
            worker_size=min(self.worker_size, batch),
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            epochs=epochs,
            updates=updates,
            batches=doubling(self.small_batch, batch, epochs) if asked.grow else BatchesConfig(),
            schedule=ScheduleConfig(kind="cosine", warmup_epochs=self.warmup * horizon),
            split=split,
            train_size=self.train_size,
            evaluations=1 if tuning else self.evaluations,
            device=self.device,
            threads=self.threads,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def question_for(task_name: str, scale: str = "short", seed: int = 0, **given: Any) -> Question:
    """The question about a task at a scale; what is ``given`` and not None replaces defaults.

    Args:
        task_name: a task's name.
        scale: "smoke", "short" or "full".
        seed: first of the final runs' seeds.
        given: fields of :class:`Question`; ``seeds`` and ``tuning_seeds`` as numbers of seeds.
    """
    task: Task = resolve(task_name)
    if scale not in SCALES:
        raise InputError(f"unknown scale {scale!r}: choose {', '.join(SCALES)}")
    preset = SCALES[scale]
    given = {k: v for k, v in given.items() if v is not None}
    epochs = given.pop("epochs", min(task.epochs, preset.epochs))
    seeds = _seeds(seed, given.pop("seeds", preset.seeds))
    tuning = _seeds(seed + MOST_SEEDS, given.pop("tuning_seeds", preset.tuning_seeds))
    small = given.pop("small_batch", task.small_batch)
    question = Question(
        task=task_name,
        methods=METHODS,
        small_batch=small,
        batch_sizes=task.batch_sizes,
        worker_size=small,
        epochs=epochs,
        tuning_epochs=epochs,
        seeds=seeds,
        tuning_seeds=tuning,
        widenings=preset.widenings,
        evaluations=min(40, epochs),
        scale=scale,
    )
    question = replace(question, **given)
    rest = tuple(m for m in question.methods if m != REFERENCE)
    return replace(
        question,
        methods=(REFERENCE, *dict.fromkeys(rest)),
        batch_sizes=tuple(dict.fromkeys(question.batch_sizes)),
    )


def _seeds(first: int, count: int) -> tuple[int, ...]:
    if count > MOST_SEEDS:
        raise InputError(f"at most {MOST_SEEDS:,} seeds, got {count:,}")
    return tuple(range(first, first + count))
