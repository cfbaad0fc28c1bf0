"""Zhao et al. (SNGM), Table 2: CIFAR-10 with ResNet-20.

160 epochs, cosine per epoch, no warm-up, momentum 0.9, weight decay 1e-4, micro-batches of at most
128. The rates were tuned and are not all printed: those here are ours to start from.
"""

from ..config import RunConfig, ScheduleConfig
from .recipe import Recipe

_SCHEDULE = ScheduleConfig(kind="cosine", hold_epoch=True)


def _recipe(method: str, lr: float, batch: int) -> Recipe:
    config = RunConfig(
        task="cifar10",
        method=method,
        batch_size=batch,
        worker_size=128,
        lr=lr,
        epochs=160,
        schedule=_SCHEDULE,
    )
    summary = f"cifar10 at {batch:,}, {method} (Zhao et al., Table 2; the rate is ours)"
    return Recipe(f"{method}-cifar10-resnet20-{batch}", summary, config)


RECIPES = tuple(
    _recipe(method, lr, batch)
    for batch in (128, 1024, 2048, 4096, 8192)
    for method, lr in (("msgd", 0.1 * (batch / 128) ** 0.5), ("sngm", 0.4))
)
