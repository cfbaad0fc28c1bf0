"""Random numbers that depend on what they are for, and on nothing else.

A draw is named by integers such as ``(seed, step, worker, parameter)``. The same name gives the
same numbers whether the workers run one after another or on many processes, after a resume, and
whatever else has drawn in between, because the global generator is neither read nor moved.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

__all__ = ["generator", "kept_random_state", "key", "normal"]


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


@contextmanager
def kept_random_state(tensors: Iterable[torch.Tensor]) -> Iterator[dict[str, list[int]]]:
    """Within, draw from torch's global generators; after, they are as they were.

    Those of the CPU and of the devices that the tensors are on; what is given says which these are,
    by kind.

    Example:
        >>> before = torch.get_rng_state()
        >>> with kept_random_state([torch.zeros(1)]):
        ...     _ = torch.rand(3)
        >>> bool((torch.get_rng_state() == before).all())
        True
    """
    devices = {t.device for t in tensors if t.device.type not in ("cpu", "meta")}
    kind = min({device.type for device in devices} or {"cuda"})
    indices = [device.index or 0 for device in devices]
    with torch.random.fork_rng(indices, device_type=kind):
        yield {kind: indices}
