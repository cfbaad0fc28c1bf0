"""Haruki et al. (GNC), Appendix A, Tables 4 and 5: CIFAR with ResNet-32.

160 epochs, momentum 0.9, weight decay 1e-4, workers of 32, crop, flip and random erasing; warm-up
over 10 epochs from 0.025 to the peak, a tenth from epochs 80 and 120. The document trains both
sets with ResNet-32; our task "cifar10" has ResNet-20, so ``cifar10-resnet32`` is meant here.
"""

from ..config import RunConfig, ScheduleConfig
from .recipe import Recipe

_RATES = {4096: 3.2, 8192: 6.4}
_ALPHAS = {  # Table 5: (GNC, RNC)
    ("cifar10", 4096): (0.1, 0.01),
    ("cifar10", 8192): (0.1, 0.01),
    ("cifar100", 4096): (0.1, 0.001),
    ("cifar100", 8192): (0.1, 0.01),
}
_TASKS = {"cifar10": "cifar10-resnet32", "cifar100": "cifar100"}


def _recipe(data: str, batch: int, method: str, alpha: float | None) -> Recipe:
    lr = _RATES[batch]
    schedule = ScheduleConfig(
        kind="multistep", milestones=(80, 120), warmup_epochs=10, warmup_start=0.025 / lr
    )
    config = RunConfig(
        task=_TASKS[data],
        method=method,
        batch_size=batch,
        worker_size=32,
        lr=lr,
        alpha=alpha,
        epochs=160,
        schedule=schedule,
        augment="crop+flip+erase",
    )
    summary = f"{data} at {batch:,}, {method} (Haruki et al., Table 2)"
    return Recipe(f"{method}-{data}-{batch}", summary, config)


RECIPES = tuple(
    _recipe(data, batch, method, alpha)
    for (data, batch), (gnc, rnc) in _ALPHAS.items()
    for method, alpha in (("msgd", None), ("gnc", gnc), ("rnc", rnc))
)
