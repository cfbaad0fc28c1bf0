"""AGN: MNIST with the PyTorch example network of 2019, 15 epochs, momentum 0.5.

The document keeps an epoch's incomplete batch and names rates from 0.01 to 0.6; its annealed
noise joins in a later version, so these are its baselines.
"""

from ..config import RunConfig, ScheduleConfig
from .recipe import Recipe

RECIPES = tuple(
    Recipe(
        f"agn-mnist-{batch}",
        f"mnist at {batch:,}, momentum SGD (AGN, Table 1's baseline; one of its rates)",
        RunConfig(
            task="mnist",
            batch_size=batch,
            worker_size=batch,
            lr=0.1,
            momentum=0.5,
            weight_decay=0.0,
            epochs=15,
            schedule=ScheduleConfig(kind="constant"),
            drop_last=False,
            evaluations=15,
        ),
    )
    for batch in (1024, 2048, 4096, 8192, 16384)
)
