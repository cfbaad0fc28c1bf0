"""How a global batch is cut: over replicas, and on each into micro-batches or workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..whole import check_whole

__all__ = ["Shares", "least_workers"]


@dataclass(frozen=True)
class Shares:
    """Into what equal parts every batch is cut.

    Attributes:
        num_replicas: processes that share it.
        micro_batch: examples of a micro-batch, where the loader yields those.
        worker_size: examples of a worker, where there are workers.
        least_workers: fewest of them that a replica can do with.

    Example:
        >>> Shares(num_replicas=2, micro_batch=4).check(12)
        Traceback (most recent call last):
        ValueError: a batch of 12 cannot be cut into whole parts for num_replicas=2 of micro_batch=4
        each: every size of the course must be divisible by 8
    """

    num_replicas: int = 1
    micro_batch: int | None = None
    worker_size: int | None = None
    least_workers: int = 1

    def __post_init__(self) -> None:
        """Refuse numbers that cut nothing."""
        check_whole("num_replicas", self.num_replicas)
        if self.micro_batch is not None:
            check_whole("micro_batch", self.micro_batch)

    def check(self, size: int) -> None:
        """Raise ValueError unless the parts of a batch of `size` are whole, equal and enough."""
        for name in ("micro_batch", "worker_size"):
            part = getattr(self, name)
            divisor = self.num_replicas * (part or 1)
            if size % divisor:
                of = "" if part is None else f" of {name}={part} each"
                raise ValueError(
                    f"a batch of {size} cannot be cut into whole parts for "
                    f"num_replicas={self.num_replicas}{of}: every size of the course must be "
                    f"divisible by {divisor}"
                )
        count = self.workers(size)
        if count is not None and count < self.least_workers:
            raise ValueError(
                f"a batch of {size} gives {count} of worker_size={self.worker_size} to each of "
                f"num_replicas={self.num_replicas}, but the perturbation needs at least "
                f"{self.least_workers} workers: begin with larger batches, or lower worker_size"
            )

    def workers(self, size: int) -> int | None:
        """Workers of each replica in a batch of `size`; None where there are none."""
        return None if self.worker_size is None else size // self.num_replicas // self.worker_size

    def check_short(self) -> None:
        """Raise ValueError where the short last batch of an epoch could not be cut either."""
        if self.num_replicas > 1 or self.micro_batch or self.worker_size:
            raise ValueError(
                f"drop_last=False leaves a short batch at an epoch's end that cannot be cut into "
                f"equal parts, got {self}: use drop_last=True"
            )


def least_workers(workers: Any) -> int:
    """The fewest on each replica that are enough for the perturbation of `workers`, if it says so.

    Example:
        >>> least_workers(None)
        1
    """
    return int(getattr(workers, "least_count", 1))
