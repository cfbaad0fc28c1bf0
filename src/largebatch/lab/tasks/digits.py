"""The 8 x 8 handwritten digits that come with scikit-learn: a task without any download.

1,797 images (Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", 1998), shuffled once
for all: 1,297 to train on, 500 to test on. Tuning sets 273 of the 1,297 aside, which leaves 1,024,
a whole large batch. The original order is by writer, hence the shuffle.
"""

from __future__ import annotations

from pathlib import Path

import torch

from largebatch.lab.models import digits_cnn
from largebatch.lab.tasks.base import Data, Task
from largebatch.seeding import generator

__all__ = ["digits"]

_TRAIN = 1297
_SHUFFLE = 1797  # the seed of the one permutation that everybody shares


def _load(data_dir: Path | None) -> Data:
    # scikit-learn takes most of a second to import: only for those who want these images.
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    order = torch.randperm(len(classes), generator=generator("cpu", _SHUFFLE))
    # Grey levels are 0 to 16.
    images = (torch.from_numpy(pixels).float() / 16).reshape(-1, 1, 8, 8)[order]
    targets = torch.from_numpy(classes).long()[order]
    return Data((images[:_TRAIN], targets[:_TRAIN]), (images[_TRAIN:], targets[_TRAIN:]))


digits = Task(
    name="digits",
    title="Handwritten digits, 8 x 8 pixels (scikit-learn)",
    load=_load,
    model=digits_cnn,
    validation=273 / _TRAIN,
    epochs=40,
    small_batch=64,
    batch_sizes=(1024,),
)
