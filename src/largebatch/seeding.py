"""Random numbers that depend on what they are for, and on nothing else.

A draw is named by integers such as ``(seed, step, worker, parameter)``. The same name gives the
same numbers whether the workers run one after another or on many processes, after a resume, and
whatever else has drawn in between, because the global generator is neither read nor moved.
"""

from __future__ import annotations

import hashlib
import struct

import torch

__all__ = ["generator", "key", "normal"]


def key(*parts: int) -> int:
    """Mix integers into one seed of 63 bits; different tuples practically never collide.

    Args:
        parts: any integers that fit into 64 signed bits, for example ``(seed, step, worker)``.

    Example:
        >>> key(0, 1, 2) == key(0, 1, 2), key(0, 1, 2) == key(0, 2, 1)
        (True, False)
    """
    digest = hashlib.blake2b(struct.pack(f"<{len(parts)}q", *parts), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(device: torch.device | str, *parts: int) -> torch.Generator:
    """A new generator on ``device``, seeded by :func:`key` of ``parts``.

    Equal parts give equal numbers on one type of device (CPU and CUDA differ from each other).

    Example:
        >>> a, b = generator("cpu", 0, 7), generator("cpu", 0, 7)
        >>> bool((torch.rand(3, generator=a) == torch.rand(3, generator=b)).all())
        True
    """
    return torch.Generator(device=device).manual_seed(key(*parts))


def normal(
    like: torch.Tensor,
    *parts: int,
    dtype: torch.dtype | None = None,
    shape: torch.Size | None = None,
) -> torch.Tensor:
    """Standard normal numbers of the shape and device of ``like``, named by ``parts``.

    In the order of the indices, so that the memory format of ``like`` makes no difference; in its
    dtype and shape unless others are given.

    Example:
        >>> bool((normal(torch.ones(3), 0, 7) == normal(torch.zeros(3), 0, 7)).all())
        True
    """
    drawn = torch.empty(shape or like.shape, dtype=dtype or like.dtype, device=like.device)
    return drawn.normal_(generator=generator(like.device, *parts))
