"""Random changes of training images, a whole batch at once, on the batch's own device.

Every image gets its own draw, from the generator given and nothing else: the same generator state
gives the same images. A batch has shape (examples, channels, height, width) and stays as it is; the
result is a new one. The generator must be on the batch's device.

GNC's runs on CIFAR use :func:`crop`, :func:`flip` and :func:`erase`; SNGM's crop and flip, which is
the default of the CIFAR tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["compose", "crop", "erase", "flip"]

Augmentation = Callable[[Tensor, torch.Generator], Tensor]

_ATTEMPTS = 10


def compose(*augmentations: Augmentation) -> Augmentation:
    """One augmentation that applies several, in the order given.

    Example:
        >>> images = torch.arange(8.0).reshape(2, 1, 2, 2)
        >>> compose(crop, flip)(images, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 1, 2, 2])
    """
    return partial(_apply, augmentations=augmentations)


def _apply(
    images: Tensor, generator: torch.Generator, augmentations: tuple[Augmentation, ...]
) -> Tensor:
    for augmentation in augmentations:
        images = augmentation(images, generator)
    return images


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2.

    Example:
        >>> images = torch.arange(4.0).reshape(2, 1, 1, 2)
        >>> flip(images, torch.Generator().manual_seed(0)).flatten()
        tensor([1., 0., 2., 3.])
    """
    coins = torch.rand(len(_checked(images)), generator=generator, device=images.device)
    return torch.where(coins[:, None, None, None] < 0.5, images.flip(-1), images)


def crop(images: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Cut each image, at its own size, out of itself padded with zeros on all four sides.

    Both offsets are uniform on 0 .. 2 * padding. With data normalised to mean zero, the zeros are
    the mean colour (He et al. 2016, section 4.2).

    Example:
        >>> crop(torch.ones(5, 3, 8, 8), torch.Generator().manual_seed(0)).shape
        torch.Size([5, 3, 8, 8])
    """
    examples, _, height, width = _checked(images).shape
    top, left = torch.randint(
        2 * padding + 1, (2, examples), generator=generator, device=images.device
    )
    padded = functional.pad(images, (padding,) * 4)
    # (examples, channels, offset, offset, height, width): a view, of which one offset is copied.
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(examples, device=images.device), :, top, left]


def erase(
    images: Tensor,
    generator: torch.Generator,
    *,
    probability: float = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
    fill: tuple[Sequence[float], Sequence[float]] = ((0.0,), (0.0,)),
) -> Tensor:
    """Random erasing: fill a rectangle of each image, with the probability given.

    Zhong et al., "Random Erasing Data Augmentation", 2020, algorithm 1: the rectangle's share of
    the image and its height over its width are uniform; sizes that do not fit are drawn again (ten
    times; then the image stays whole, about once in 10^17 with the default ranges); its place is
    uniform among those where it lies inside the image, as in the authors' program.

    Args:
        images: (examples, channels, height, width).
        generator: on the images' device.
        probability: with which an image is touched.
        area: smallest and largest share of the image.
        aspect: smallest and largest height over width.
        fill: lowest and highest values, one per channel or one for all: each pixel is uniform
            between them. (0,), (0,), the default, is the mean colour of normalised data; the
            paper's best variant draws over the whole range of pixel values.

    Example:
        >>> images = torch.ones(4, 3, 32, 32)
        >>> erased = erase(images, torch.Generator().manual_seed(0), probability=1.0)
        >>> (erased == 0).float().mean(dim=(1, 2, 3)).min() > 0.01
        tensor(True)
    """
    inside = _rectangles(_checked(images), generator, probability, area, aspect)
    low, high = (torch.tensor(v, device=images.device)[:, None, None] for v in fill)
    if fill[0] != fill[1]:
        noise = torch.rand(images.shape, generator=generator, device=images.device)
        low = low + (high - low) * noise
    return torch.where(inside, low.to(images.dtype), images)


def _rectangles(
    images: Tensor,
    generator: torch.Generator,
    probability: float,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> Tensor:
    """Which pixels are erased: (examples, 1, height, width), boolean."""
    examples, _, height, width = images.shape
    # Rows: the coin, the place in each direction, then share and aspect of each attempt.
    u = torch.rand(3 + 2 * _ATTEMPTS, examples, generator=generator, device=images.device)
    share = height * width * (area[0] + (area[1] - area[0]) * u[3 : 3 + _ATTEMPTS])
    ratio = aspect[0] + (aspect[1] - aspect[0]) * u[3 + _ATTEMPTS :]
    tall, wide = (share * ratio).sqrt().round(), (share / ratio).sqrt().round()
    fits = (tall < height) & (wide < width)
    first = fits.byte().argmax(dim=0, keepdim=True)
    tall, wide = tall.gather(0, first)[0], wide.gather(0, first)[0]
    touched = (u[0] < probability) & fits.any(dim=0)
    rows = _between((u[1] * (height - tall + 1)).floor(), tall, height)
    columns = _between((u[2] * (width - wide + 1)).floor(), wide, width)
    return (touched[:, None, None] & rows[:, :, None] & columns[:, None, :]).unsqueeze(1)


def _between(start: Tensor, length: Tensor, size: int) -> Tensor:
    """(examples, size): whether a position is in start .. start + length - 1."""
    positions = torch.arange(size, device=start.device)
    return (positions >= start[:, None]) & (positions < (start + length)[:, None])


def _checked(images: Tensor) -> Tensor:
    if images.dim() != 4:
        raise ValueError(
            f"images of shape {tuple(images.shape)}: augmentation needs a batch of shape "
            "(examples, channels, height, width)"
        )
    return images
