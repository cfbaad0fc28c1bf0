"""What is descended in place of the mean loss, a line each."""

from __future__ import annotations

from torch.nn import functional

from largebatch.batching import hard_examples, sharp_cross_entropy
from largebatch.batching.sharper import check_temperature

from .kinds import Loss, LossFn, LossOf, Part, RunFacts

__all__ = ["LOSSES"]


def _hard(share: float, run: RunFacts) -> LossOf:
    def of(losses: LossFn) -> LossFn:
        return lambda outputs, targets: hard_examples(losses(outputs, targets), discard=share)

    return of


def _sharp(temperature: float, run: RunFacts) -> LossOf:
    check_temperature(temperature)

    def of(losses: LossFn) -> LossFn:
        if getattr(losses, "func", None) is not functional.cross_entropy:
            raise ValueError("sharp needs a task whose loss is cross entropy: it divides logits")
        # The mean of single losses, as that of all other methods with losses of their own.
        return lambda outputs, targets: sharp_cross_entropy(
            outputs, targets, temperature, reduction="none"
        ).mean()

    return of


_FOUND: tuple[Loss, ...] = (
    Part(
        "hard",
        "without the smallest losses of each worker's examples, throughout the run",
        "Gao and Zhong 2020, Sec. 3.1",
        _hard,
        0.3,
        parameter="discard",
        step=3.0**0.5,
        most=0.9,
    ),
    Part(
        "sharp",
        "cross entropy at a temperature below 1",
        "named in Gao and Zhong 2020, Sec. 3",
        _sharp,
        0.5,
        parameter="temperature",
        step=2.0**0.5,
        most=1.0,
        by_worker=False,
    ),
)

LOSSES = {part.name: part for part in _FOUND}
