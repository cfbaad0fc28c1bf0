"""AGN: MNIST with the PyTorch example network of 2019, 15 epochs, momentum 0.5.

The document keeps an epoch's incomplete batch. It names rates from 0.01 to 0.6 and noise of 0.005,
0.01 and 0.3, but which goes with which only for Fig. 1 and for full batches.
"""

from dataclasses import replace

from ..config import RunConfig, ScheduleConfig
from .recipe import Recipe

_MNIST = RunConfig(
    task="mnist",
    lr=0.1,
    momentum=0.5,
    weight_decay=0.0,
    epochs=15,
    schedule=ScheduleConfig(kind="constant"),
    drop_last=False,
    evaluations=15,
)
_BASELINES = tuple(
    Recipe(
        f"agn-mnist-{batch}",
        f"mnist at {batch:,}, momentum SGD (AGN, Table 1's baseline; one of its rates)",
        replace(_MNIST, batch_size=batch, worker_size=batch),
    )
    for batch in (1024, 2048, 4096, 8192, 16384)
)
_FULL = replace(_MNIST, batch_size=60_000, worker_size=1000, lr=0.01, epochs=100, evaluations=20)

RECIPES = (
    *_BASELINES,
    Recipe(
        "agn-mnist-16384-noise",
        "mnist at 16,384, annealed noise of 0.3 (AGN, Fig. 1)",
        replace(_MNIST, method="agn", alpha=0.3, batch_size=16384, worker_size=16384),
    ),
    Recipe("agn-mnist-full", "mnist, all examples at once (AGN, Fig. 2's baseline)", _FULL),
    Recipe(
        "agn-mnist-full-noise",
        "mnist, all examples at once, annealed noise of 1: simulated SGD (AGN, Fig. 2)",
        replace(_FULL, method="agn", alpha=1.0),
    ),
)
