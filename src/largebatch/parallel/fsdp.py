"""Workers over FSDP2 (fully_shard): a worker is a replica, whose processes run it together.

    two-dimensional mesh (HSDP)    each replica runs ``count`` of a step's workers
    one-dimensional mesh           all processes are one replica: ``count`` workers in all

    reduce-scatter within the replica → the worker's own gradient, in pieces
        → (in a step's last pass) join → sum over the replicas → p.grad

Everything is kept in the pieces in which FSDP keeps weights; all but sums stays with its process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from .flat import add_up
from .handed_out import HandedOut, Message
from .own_replica import alone, reset, reshard
from .processes import Join, Processes
from .waiting import explained_anywhere

__all__ = ["ShardedReplicas"]


class ShardedReplicas(Processes):
    """The replicas of one model to which fully_shard was applied.

    Outside a pass the model is FSDP2 as its owner made it.
    """

    twice = False

    def __init__(self, model: nn.Module) -> None:
        """Read the mesh from the model's parameters, all of which lie alike."""
        mesh = next(p for p in model.parameters() if p.requires_grad).device_mesh  # type: ignore[attr-defined]
        self.model = model
        self.pieces, self.piece = mesh.size(-1), mesh.get_local_rank(mesh.ndim - 1)
        self._shards = mesh.get_group(mesh.ndim - 1)
        if mesh.ndim == 2:
            self.ranks, self.rank = mesh.size(0), mesh.get_local_rank(0)
        self.reduces = self.ranks > 1
        self.group = mesh.get_group(0) if self.reduces else None
        self._modules = [each for each in model.modules() if isinstance(each, FSDPModule)]
        self._messages: list[Message] = []  # of the last pass that left a gradient
        self._unsent: list[Message] = []  # of the passes since gradients were last added up

    def check_step(self, passes: int, count: int) -> None:
        """Every step can."""

    def waiting(self) -> AbstractContextManager[None]:
        """Also where FSDP itself waits for the processes of the replica."""
        return explained_anywhere(self._shards)

    def settle(self) -> None:
        """Have weights in their pieces, which a look at the loss may have left gathered."""
        self._unsent = []  # of a step that was forgotten
        self._reshard()

    def _reshard(self) -> None:
        """Forget gathered weights, which are those of before an offset was added or taken away."""
        for module in self._modules:
            reshard(module)

    @contextmanager
    def _own_weights(self) -> Iterator[None]:
        """Within, weights are gathered as they are now; after, likewise."""
        self._reshard()
        try:
            yield
        except BaseException:
            reset(self.model, self._modules)
            raise
        finally:
            self._reshard()

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Within, a backward pass leaves the replica's own gradient in ``p.grad``."""
        handed = HandedOut(None, self.group)
        with self._pass(handed):
            yield
        self._unsent += handed.messages

    @contextmanager
    def together(self, join: Join) -> Iterator[None]:
        """Within, one backward pass leaves the sum over replicas of what join made of it."""
        handed = HandedOut(join, self.group)
        unsent, self._unsent = self._unsent, []
        with self._pass(handed):
            yield
            handed.finish()
            # What only the step's earlier passes have a gradient of is added up too.
            self._send_zeros(handed, unsent)

    @contextmanager
    def _pass(self, handed: HandedOut) -> Iterator[None]:
        parameters = list(self.model.parameters()) if self.reduces else []
        with self._own_weights(), alone(self._modules), handed.listening(parameters):
            yield
        # A look at the loss has none.
        self._messages = handed.messages or self._messages

    @torch.no_grad()
    def late(self, join: Join, parameters: Sequence[Tensor]) -> None:
        """Send the messages of this replica's last pass, which others send in theirs."""
        if not self._messages:
            raise RuntimeError(
                "combine() before any worker has run on this replica: the first step must have "
                "one on each, from which the messages to the others follow"
            )
        if any(not p.requires_grad for message in self._messages for p in message.parameters):
            raise RuntimeError(
                "combine() without a worker on this replica after parameters were frozen: the "
                "first step with others in training must have one on each replica"
            )
        unsent, self._unsent = self._unsent, []
        self._send_zeros(HandedOut(join, self.group), [*self._messages, *unsent])

    def _send_zeros(self, handed: HandedOut, messages: Sequence[Message]) -> None:
        for message in messages:
            handed.came_as_zeros(message)
        handed.finish()

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """One all-reduce over the replicas for each kind of tensor and 25 MB."""
        if self.reduces:
            add_up(tensors, self.group)

    def add_up_everywhere(self, tensors: Sequence[Tensor]) -> None:
        """Over the replicas, and over the processes of one."""
        self.add_up(tensors)
        add_up(tensors, self._shards)

    def agreed(self, weight: float | Tensor) -> float | Tensor:
        """The mean of what the replica's processes give, as FSDP takes the mean of their losses."""
        device = next(self.model.parameters()).device
        mean = torch.zeros((), dtype=torch.float64, device=device) + weight
        add_up([mean], self._shards)
        return mean / self.pieces

    def settle_buffers(self, apart_from: Sequence[Tensor]) -> None:
        """FSDP leaves buffers to each process, and so do we."""
