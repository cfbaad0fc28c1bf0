"""Workers over DistributedDataParallel: each process holds a replica and runs its own workers.

    worker's own gradient → DDP's bucket → join: seen, earlier workers' added → all-reduce → p.grad

The bucket goes over the wire as DDP would send it, as soon as it is full; all passes but a step's
last are kept from reducing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from .bucket_hook import BucketHook, hook_of
from .flat import add_up
from .processes import Join, Processes

__all__ = ["Replicas"]


class Replicas(Processes):
    """The replicas of one DistributedDataParallel model.

    Outside a pass the model is DDP as its owner made it: gradients are averaged, buffers
    broadcast. Its communication hook stays registered for good, since torch has no way to take one
    back; without a pass it does what DDP does without a hook.
    """

    reduces = True

    def __init__(self, model: DistributedDataParallel) -> None:
        """Take the model's communication hook.

        Raises:
            TypeError: the model already has somebody else's.
            ValueError: other Workers have it.
        """
        self.model = model
        self.group = model.process_group
        self.rank = torch.distributed.get_rank(self.group)
        self.ranks = torch.distributed.get_world_size(self.group)
        self._hook: BucketHook = hook_of(model)
        self._hook.take(self)
        self._used: dict[int, Tensor] = {}  # in passes since the last that was reduced, by id

    def settle(self) -> None:
        """They are."""

    def check_step(self, passes: int, count: int) -> None:
        """Raise for a static graph with passes that are not reduced, and within ``join()``."""
        if self.model.static_graph and passes * count > 1:
            raise ValueError(
                f"static_graph=True reduces every backward pass, but here a step has "
                f"{passes * count}: make DistributedDataParallel without it, or take count=1 and a "
                "method of one pass"
            )
        if self.model._join_config.enable:
            raise RuntimeError(
                "DistributedDataParallel.join() lets processes end early, which Workers' own "
                "messages do not allow: give every process as many steps (drop_last=True)"
            )

    @contextmanager
    def _own_buffers(self) -> Iterator[None]:
        """Within, DDP does not write rank 0's buffers over the worker's."""
        before = self.model.broadcast_buffers
        self.model.broadcast_buffers = False
        try:
            yield
        finally:
            self.model.broadcast_buffers = before

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Within, a backward pass leaves the process's own gradient in ``p.grad``."""
        parameters = list(self.model.parameters())
        keeping = self._hook.keeping(parameters)
        with self._own_buffers(), self.model.no_sync(), keeping:
            yield
        if self.model.find_unused_parameters:
            self._used.update((id(p), p) for p in parameters if p.grad is not None)

    @contextmanager
    def together(self, join: Join) -> Iterator[None]:
        """Within, one backward pass leaves the sum over processes of what join made of it."""
        # DDP too remembers which parameters were used since it reduced last, and wants a gradient
        # of each: of one that this pass leaves alone it is zero.
        used, self._used = self._used, {}
        for parameter in used.values():
            parameter.grad = torch.zeros_like(parameter, requires_grad=False)
        with self._own_buffers(), self._hook.joining(join):
            yield
            self._hook.check_all_came()

    def late(self, join: Join, parameters: Sequence[Tensor]) -> None:
        """Send the buckets of a backward pass in which every gradient is zero."""
        # Through DDP's own forward and backward: so the messages are those of processes that
        # reduce in a real one, and those are matched.
        unused = self.model.find_unused_parameters
        own = (p for p in self.model.parameters() if p.requires_grad)
        some = list(parameters) if unused and parameters else list(own)
        with torch.enable_grad(), self.together(join):
            self.model._pre_forward()  # type: ignore[no-untyped-call]
            views = [parameter.expand_as(parameter) for parameter in some]
            outputs = self.model._post_forward(views)  # type: ignore[no-untyped-call]
            zeros = [torch.zeros((), dtype=o.dtype, device=o.device) for o in outputs]
            torch.autograd.backward(
                outputs, [z.expand_as(o) for z, o in zip(zeros, outputs, strict=True)]
            )

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """One all-reduce for each kind of tensor and 25 MB."""
        add_up(tensors, self.group)

    @torch.no_grad()
    def settle_buffers(self, apart_from: Sequence[Tensor]) -> None:
        """Broadcast the others from the first process, where DDP would have."""
        if not self.model.broadcast_buffers:
            return
        settled = {id(each) for each in apart_from}
        ignored = self.model.parameters_to_ignore
        rest = [
            buffer
            for name, buffer in self.model.module.named_buffers()
            if id(buffer) not in settled and name not in ignored
        ]
        if rest:
            torch.distributed._broadcast_coalesced(  # type: ignore[attr-defined]
                self.group, rest, self.model.broadcast_bucket_size, 0
            )
