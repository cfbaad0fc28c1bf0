"""MNIST and Fashion-MNIST: 60,000 training and 10,000 test images of 28 x 28 grey pixels.

MNIST: LeCun, Cortes and Burges, made from NIST Special Databases 1 and 3. Fashion-MNIST: Xiao,
Rasul and Vollgraf 2017. Grey levels are scaled to [0, 1], then shifted and scaled by the training
set's mean and standard deviation, once, at load. Files: ``MNIST/raw/`` and ``FashionMNIST/raw/``.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from largebatch.lab.models import mnist_cnn
from largebatch.lab.tasks.base import Data, Task
from largebatch.lab.tasks.published import Archive, File, data_folder, ensure, read

__all__ = ["fashion_mnist", "mnist"]

# Part, MD5 of the .gz, MD5 of its content.
_Row = tuple[str, str, str]
_SIZES = {"train-images": 47_040_016, "train-labels": 60_008}
_SIZES |= {"t10k-images": 7_840_016, "t10k-labels": 10_008}


def _archives(folder: str, mirrors: tuple[str, ...], rows: tuple[_Row, ...]) -> tuple[Archive, ...]:
    archives = []
    for part, packed, content in rows:
        name = f"{part}-idx{3 if part.endswith('images') else 1}-ubyte"
        file = File(f"{folder}/raw/{name}", _SIZES[part], (content,))
        urls = tuple(f"{mirror}{name}.gz" for mirror in mirrors)
        archives.append(Archive(f"{file.path}.gz", packed, urls, (file,)))
    return tuple(archives)


_MNIST = _archives(
    "MNIST",
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
    (
        ("train-images", "f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
        ("train-labels", "d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
        ("t10k-images", "9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
        ("t10k-labels", "ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
    ),
)
_FASHION = _archives(
    "FashionMNIST",
    ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    (
        ("train-images", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
        ("train-labels", "25c81989df183df01b3e8a0aad5dffbe", "9018921c3c673c538a1fc5bad174d6f9"),
        ("t10k-images", "bef4ecab320f06d8554ea6380940ec79", "8181f5470baa50b63fa0f6fddb340f0a"),
        ("t10k-labels", "bb300cfdad3c16e7a12a480ee83cd310", "15d484375f8d13e6eb1aabb0c3f46965"),
    ),
)


def _parse(content: bytes) -> Tensor:
    """Read IDX: two zero bytes, the type (8: uint8), the number of dimensions, their sizes."""
    dimensions = content[3]
    shape = [int.from_bytes(content[4 + 4 * d : 8 + 4 * d], "big") for d in range(dimensions)]
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * dimensions)
    return values.reshape(shape)


def _load(
    data_dir: Path | None, archives: tuple[Archive, ...], mean: float, deviation: float
) -> Data:
    folder = data_folder(data_dir)
    ensure(folder, archives)
    parsed = [_parse(read(folder, archive.files[0])) for archive in archives]
    scaled = [
        images.unsqueeze(1).float().sub_(255 * mean).div_(255 * deviation)
        for images in (parsed[0], parsed[2])
    ]
    return Data((scaled[0], parsed[1].long()), (scaled[1], parsed[3].long()))


mnist = Task(
    name="mnist",
    title="MNIST, 28 x 28 pixels",
    load=partial(_load, archives=_MNIST, mean=0.1307, deviation=0.3081),
    model=mnist_cnn,
    validation=1 / 6,
    epochs=15,
    small_batch=64,
    batch_sizes=(2048, 16384),
)

fashion_mnist = Task(
    name="fashion-mnist",
    title="Fashion-MNIST, 28 x 28 pixels",
    load=partial(_load, archives=_FASHION, mean=0.2860, deviation=0.3530),
    model=mnist_cnn,
    validation=1 / 6,
    epochs=15,
    small_batch=64,
    batch_sizes=(2048, 16384),
)
