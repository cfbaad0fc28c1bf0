"""CIFAR-10 and CIFAR-100: 50,000 training and 10,000 test images of 32 x 32 pixels, three colours.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. Pixels are scaled to
[0, 1], then shifted and scaled per colour by the training set's mean and standard deviation, once,
at load (float32, 614 MB), so that augmentation's zeros are the mean colour, as in He et al. 2016.
Files: ``cifar-10-batches-py/`` and ``cifar-100-python/``, the "python version".
"""

from __future__ import annotations

import io
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from largebatch.lab.models import alexnet, resnet8, resnet20, resnet32
from largebatch.lab.tasks.augment import compose, crop, flip
from largebatch.lab.tasks.base import Data, Examples, Task
from largebatch.lab.tasks.published import Archive, File, data_folder, ensure, read

__all__ = ["cifar10", "cifar10_alexnet", "cifar10_resnet32", "cifar100", "cifar100_resnet8"]

_URL = "https://www.cs.toronto.edu/~kriz/"
_FOLDER10, _FOLDER100 = "cifar-10-batches-py", "cifar-100-python"

_CIFAR10 = Archive(
    "cifar-10-python.tar.gz",
    "c58f30108f718f92721af3b95e74349a",
    (f"{_URL}cifar-10-python.tar.gz",),
    (
        File(f"{_FOLDER10}/data_batch_1", 31035704, ("c99cafc152244af753f735de768cd75f",)),
        File(f"{_FOLDER10}/data_batch_2", 31035320, ("d4bba439e000b95fd0a9bffe97cbabec",)),
        File(f"{_FOLDER10}/data_batch_3", 31035999, ("54ebc095f3ab1f0389bbae665268c751",)),
        File(f"{_FOLDER10}/data_batch_4", 31035696, ("634d18415352ddfa80567beed471001a",)),
        File(f"{_FOLDER10}/data_batch_5", 31035623, ("482c414d41f54cd18b22e5b47cb7c3cb",)),
        File(f"{_FOLDER10}/test_batch", 31035526, ("40351d587109b95175f43aff81a1287e",)),
    ),
)

# Each with the published MD5 and that of a copy rebuilt from public sources: the same images and
# labels, the sequence of labels too, but another order of the images inside a class.
_CIFAR100 = Archive(
    "cifar-100-python.tar.gz",
    "eb9058c3a382ffc7106e4002c42a8d85",
    (f"{_URL}cifar-100-python.tar.gz",),
    (
        File(
            f"{_FOLDER100}/train",
            155249918,
            ("16019d7e3df5f24257cddd939b257f8d", "aa56bf201cd91b6b20c45ceb311be1c7"),
        ),
        File(
            f"{_FOLDER100}/test",
            31049707,
            ("f0ef6b0ae62326f3e7ffdfab6717acfc", "66ab8d6d957b441f20d9b74bbd2073fd"),
        ),
    ),
)


def _dtype(name: str, align: int, copy: int) -> numpy.dtype[Any]:
    # The files say align=0 where numpy 2.4.0 wants a bool, and warns.
    return numpy.dtype(name, bool(align), bool(copy))


def _array(kind: type, shape: tuple[int, ...], typecode: bytes | str) -> numpy.ndarray[Any, Any]:
    return numpy.empty(shape, typecode)


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): numpy.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): _array,
}


class _Unpickler(pickle.Unpickler):
    """Builds the three things that the published files consist of and refuses all else.

    The files' MD5 was compared before; this makes sure that no code could run anyway, and that
    names which numpy has moved since 2009 are found.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a CIFAR file")
        return _KNOWN[module, name]


def _parse(content: bytes, labels: str) -> Examples:
    entry = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    return torch.from_numpy(entry["data"]), torch.tensor(entry[labels])


def _load(
    data_dir: Path | None,
    archive: Archive,
    labels: str,
    mean: tuple[float, ...],
    deviation: tuple[float, ...],
) -> Data:
    folder = data_folder(data_dir)
    ensure(folder, [archive])
    *train, test = [_parse(read(folder, file), labels) for file in archive.files]

    shift, scale = (255 * torch.tensor(v).reshape(3, 1, 1) for v in (mean, deviation))
    return Data(_normalised(train, shift, scale), _normalised([test], shift, scale))


def _normalised(parts: list[Examples], shift: Tensor, scale: Tensor) -> Examples:
    # File by file into one tensor: 614 MB are touched once, and no uint8 copy of all is made.
    images = torch.empty(sum(len(pixels) for pixels, _ in parts), 3, 32, 32)
    start = 0
    for pixels, _ in parts:
        part = images[start : start + len(pixels)]
        part.copy_(pixels.reshape(-1, 3, 32, 32)).sub_(shift).div_(scale)
        start += len(pixels)
    return images, torch.cat([targets for _, targets in parts])


cifar10 = Task(
    name="cifar10",
    title="CIFAR-10, ResNet-20",
    load=partial(
        _load,
        archive=_CIFAR10,
        labels="labels",
        mean=(0.4914, 0.4822, 0.4465),
        deviation=(0.2470, 0.2435, 0.2616),
    ),
    model=resnet20,
    augment=compose(crop, flip),
    validation=0.1,
    epochs=160,
    small_batch=128,
    batch_sizes=(4096,),
)

cifar100 = Task(
    name="cifar100",
    title="CIFAR-100, ResNet-32",
    load=partial(
        _load,
        archive=_CIFAR100,
        labels="fine_labels",
        mean=(0.5071, 0.4865, 0.4409),
        deviation=(0.2673, 0.2564, 0.2762),
    ),
    model=partial(resnet32, classes=100),
    augment=compose(crop, flip),
    validation=0.1,
    epochs=160,
    small_batch=128,
    batch_sizes=(4096,),
)

# So small that a CPU trains it with probes in minutes.
cifar100_resnet8 = replace(
    cifar100,
    name="cifar100-resnet8",
    title="CIFAR-100, ResNet-8",
    model=partial(resnet8, classes=100),
)

# The network of GNC's CIFAR-10 runs; ResNet-20 is SNGM's.
cifar10_resnet32 = replace(
    cifar10, name="cifar10-resnet32", title="CIFAR-10, ResNet-32", model=resnet32
)

# The network of CURV's runs, who does not speak of augmentation: none is what was said.
cifar10_alexnet = replace(
    cifar10,
    name="cifar10-alexnet",
    title="CIFAR-10, AlexNet",
    model=alexnet,
    augment=None,
    batch_sizes=(8192,),
)
