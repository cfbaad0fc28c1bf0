"""A task of one's own: rows of a table instead of images, a network, and nothing else to register.

From this folder: ``largebatch compare --task my_task:task --out wine``
"""

from pathlib import Path

import torch
from sklearn.datasets import load_wine
from torch import nn

from largebatch.lab.tasks import Data, Task


def load(data_dir: Path | None) -> Data:
    """178 wines, 13 measurements each, from three growers; every third one is for the test."""
    rows, growers = load_wine(return_X_y=True)
    x, y = torch.tensor(rows, dtype=torch.float32), torch.tensor(growers)
    held_out = torch.arange(len(x)) % 3 == 0
    train, test = x[~held_out], x[held_out]
    mean, deviation = train.mean(dim=0), train.std(dim=0)  # of the training rows alone
    train, test = (train - mean) / deviation, (test - mean) / deviation
    return Data(train=(train, y[~held_out]), test=(test, y[held_out]))


def model() -> nn.Module:
    """One hidden layer."""
    return nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))


task = Task(
    name="wine",
    title="Three growers of wine (scikit-learn)",
    load=load,
    model=model,
    small_batch=8,
    batch_sizes=(64,),
)
