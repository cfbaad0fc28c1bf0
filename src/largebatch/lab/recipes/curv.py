"""Gao and Zhong (CURV): CIFAR-10 with AlexNet, Figures 10 to 14.

Stated: SGD; 8,192 at a rate of 0.05, and the same with a first epoch of 512 at 0.005; the
smallest 30% of a batch's losses discarded for 100 epochs, at 2,000 and 8,000. Not stated, and ours:
the other rates, 100 epochs in all (so that what is discarded ends with the run), the momentum and
the weight decay, no augmentation.
"""

from dataclasses import replace

from ..config import BatchesConfig, RunConfig, ScheduleConfig
from .recipe import Recipe

_BASELINE = RunConfig(
    task="cifar10-alexnet",
    batch_size=8192,
    worker_size=512,
    lr=0.05,
    epochs=100,
    schedule=ScheduleConfig(kind="constant"),
    augment="none",
)
# From epoch 1 on ten times the rate, though the batch is sixteen times as large: no scaling rule.
_SMALL_FIRST = replace(
    _BASELINE,
    lr=0.005,
    batches=BatchesConfig(sizes=(512,), until=(1.0,), rule="none"),
    schedule=ScheduleConfig(kind="multistep", milestones=(1.0,), factor=10.0),
)


def _discarding(batch: int) -> tuple[Recipe, Recipe]:
    # One worker: the document discards of the whole batch, a worker of its own examples.
    plain = replace(_BASELINE, batch_size=batch, worker_size=batch)
    summary = f"cifar10, AlexNet at {batch:,}, {{}} (Gao and Zhong, Fig. 10; the rate is ours)"
    return (
        Recipe(f"curv-cifar10-{batch}", summary.format("momentum SGD"), plain),
        Recipe(
            f"curv-cifar10-{batch}-hard",
            summary.format("the smallest 30% of losses discarded"),
            replace(plain, method="hard", alpha=0.3),
        ),
    )


RECIPES = (
    Recipe(
        "curv-cifar10-8192",
        "cifar10, AlexNet at 8,192, momentum SGD (Gao and Zhong, Fig. 11-12)",
        _BASELINE,
    ),
    Recipe(
        "curv-cifar10-8192-small-first",
        "cifar10, AlexNet at 8,192, at 512 in the first epoch (Gao and Zhong, Fig. 13-14)",
        _SMALL_FIRST,
    ),
    *_discarding(2000),
    *_discarding(8000),
)
