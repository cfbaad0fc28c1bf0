"""The communication hook through which a worker's own gradient is seen in DDP's buckets."""

# No `from __future__ import annotations`: DDP compares the hook's annotations with classes.

import gc
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.distributed import GradBucket  # type: ignore[attr-defined]
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from .processes import SECOND, Join, Piece
from .waiting import WaitedInVain, explained

__all__ = ["BucketHook", "hook_of"]


class BucketHook:
    """What DDP hands its buckets to: plain averaging, or within :meth:`joining` what it is told.

    It lives as long as the DDP model, which keeps it; its owner may go, and another may come.
    """

    def __init__(self, group: Any = None) -> None:
        """Belong to nobody yet; a copy of the model carries one without a group, and unused."""
        self.group = group
        self._owner: weakref.ref[object] | None = None
        self._join: Join | None = None
        self._keeping = False
        self._strayed = False
        self._all_came = False
        self._vain: WaitedInVain | None = None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """A copied or pickled model has a new reducer, in which no hook is registered."""
        return BucketHook, ()

    def take(self, owner: object) -> None:
        """Belong to ``owner`` until it is gone.

        Raises:
            ValueError: it belongs to another.
        """
        if self._owner is not None and self._owner() is not None:
            gc.collect()  # a step's parts know each other, so that they go late
        if self._owner is not None and self._owner() is not None:
            raise ValueError(
                "this DistributedDataParallel model already has Workers: use those, or delete "
                "them first (one hook sees its gradients)"
            )
        self._owner = weakref.ref(owner)

    @contextmanager
    def keeping(self, parameters: Sequence[Tensor]) -> Iterator[None]:
        """Within, gradients stay as they are, though DDP should reduce them.

        As it does, ``no_sync`` or not, in the first backward pass after a forward pass that had
        none, such as somebody's look at the loss between two steps.
        """
        self._keeping, self._strayed = True, False
        try:
            yield
        finally:
            self._keeping = False
        if self._strayed:
            # They may be views of buckets, which the next pass fills anew.
            for parameter in parameters:
                parameter.grad = None if parameter.grad is None else parameter.grad.clone()

    @contextmanager
    def joining(self, join: Join) -> Iterator[None]:
        """Within, ``join`` gets each bucket before it is added up over the processes."""
        self._join, self._all_came, self._vain = join, False, None
        try:
            yield
        except RuntimeError as error:
            # DDP says that a callback had an error; this is the one.
            if self._vain is not None:
                raise self._vain from error
            raise
        finally:
            self._join = None

    def check_all_came(self) -> None:
        """Raise RuntimeError unless one whole backward pass went through the buckets."""
        if not self._all_came:
            raise RuntimeError(
                "DistributedDataParallel has not reduced the gradients of the step's last pass: "
                "call the wrapped model itself, not its .module, and loss.backward() once, within "
                "the worker's `with` block and outside no_sync(); where some parameters get no "
                "gradient, make it with find_unused_parameters=True"
            )

    def __call__(self, bucket: GradBucket) -> Future[Tensor]:
        """Start to add a bucket up over the processes."""
        buffer = bucket.buffer()
        if self._keeping:
            self._strayed = True
            kept: Future[Tensor] = Future()
            kept.set_result(buffer)
            return kept
        if self._join is None:
            buffer.div_(torch.distributed.get_world_size(self.group))
        else:
            self._check_once()
            parameters = bucket.parameters()
            self._join(Piece(parameters, _views(buffer, parameters), buffer))
            self._all_came = bucket.is_last()
        with explained(self.group):
            work = torch.distributed.all_reduce(buffer, group=self.group, async_op=True)
        return work.get_future().then(self._received)

    def _received(self, done: Future[list[Tensor]]) -> Tensor:
        try:
            with explained(self.group):
                return done.value()[0]
        except WaitedInVain as error:
            self._vain = error
            raise

    def _check_once(self) -> None:
        if self._all_came:
            raise RuntimeError(SECOND)


def _views(buffer: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    """The pieces of a bucket, laid out as their parameters are.

    Not ``bucket.gradients()``: those read every piece as contiguous, also one that DDP has filled
    in the order of a parameter in channels-last format.
    """
    views, start = [], buffer.storage_offset()
    for parameter in parameters:
        strides = _strides(parameter.shape, parameter.stride())
        views.append(torch.as_strided(buffer, parameter.shape, strides, start))
        start += parameter.numel()
    return views


@lru_cache(maxsize=4096)
def _strides(shape: tuple[int, ...], own: tuple[int, ...]) -> tuple[int, ...]:
    """Its own where it fills its memory without gaps; else those of a contiguous tensor."""
    # Kept, since a step asks for every parameter's.
    parameter = torch.empty_strided(shape, own, device="meta")
    dense = torch.empty_like(parameter, memory_format=torch.preserve_format)
    return own if dense.stride() == own else torch.empty(shape, device="meta").stride()


def _share_gradients(state: BucketHook, bucket: GradBucket) -> Future[Tensor]:
    return state(bucket)


def hook_of(model: DistributedDataParallel) -> BucketHook:
    """The hook that the model has from earlier Workers, or else a new one.

    Raises:
        TypeError: the model has somebody else's.
    """
    known = [state for _, state in model._comm_hooks]
    ours = [each for each in known if isinstance(each, BucketHook) and each.group is not None]
    if ours:
        return ours[0]
    named = model._get_ddp_logging_data().get("comm_hook")  # type: ignore[no-untyped-call]
    theirs = [hook for hook, state in model._comm_hooks if not isinstance(state, BucketHook)]
    if theirs or named:
        name = theirs[0].__name__ if theirs else named
        raise TypeError(
            f"DistributedDataParallel has the communication hook {name!r}, but Workers needs to "
            "see each worker's own gradient there: make the model without compression, mixed "
            "precision or optimizers of its own"
        )
    hook = BucketHook(model.process_group)
    model.register_comm_hook(hook, _share_gradients)
    return hook
