"""What is done to the batch before it reaches a worker."""

from .shard import split_batch

__all__ = ["split_batch"]
