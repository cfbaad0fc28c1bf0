"""Where a process's workers stand among all workers, and how what they found is added up.

    worker i of all = rank * count + local worker        g = sum over processes of their sums

The step asks this one interface; that there is one process only is its trivial case.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["SECOND", "Join", "OneProcess", "Piece", "Processes"]

# Said wherever gradients are added up while the backward pass runs.
SECOND = (
    "a second backward pass in one worker's `with` block, whose gradients have been reduced: add "
    "the losses up, and call backward() once"
)


@dataclass(frozen=True, eq=False)
class Piece:
    """A process's own gradient of some parameters, about to be added up over the processes.

    Attributes:
        parameters: whose gradient it is.
        gradients: one for each, of its shape: views of the buffer that will be reduced. What is
            written into them is what is added up; where none came, zero.
        buffer: the memory that they are pieces of.
    """

    parameters: Sequence[Tensor]
    gradients: Sequence[Tensor]
    buffer: Tensor


Join = Callable[[Piece], None]


class Processes(ABC):
    """The processes that share a step, seen from one of them.

    Attributes:
        rank: this process's number.
        ranks: how many there are.
        reduces: whether gradients must be added up over processes.
        group: the processes as torch.distributed knows them; None for one alone.
        pieces: into how many pieces, each on a process of its own, a replica is cut. Then a rank
            is a replica, and its processes run each of its workers together.
        piece: which one this process has.
        twice: whether the model has a second backward pass, for exact Hessian products.
    """

    rank: int = 0
    ranks: int = 1
    reduces: bool = False
    group: Any = None
    pieces: int = 1
    piece: int = 0
    twice: bool = True

    @property
    def place(self) -> int:
        """This process's number among all that hold something."""
        return self.rank * self.pieces + self.piece

    @property
    def places(self) -> int:
        """How many hold something."""
        return self.ranks * self.pieces

    @abstractmethod
    def apart(self) -> AbstractContextManager[None]:
        """A pass whose gradients and buffers stay this process's."""

    @abstractmethod
    def together(self, join: Join) -> AbstractContextManager[None]:
        """The pass in whose backward ``join`` gets each piece, which is then added up."""

    @abstractmethod
    def late(self, join: Join, parameters: Sequence[Tensor]) -> None:
        """The same without a pass: pieces of zeros; ``parameters`` have something to be joined."""

    @abstractmethod
    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, in place."""

    def add_up_everywhere(self, tensors: Sequence[Tensor]) -> None:
        """The same over all processes, also those that run one worker together."""
        self.add_up(tensors)

    def agreed(self, weight: float | Tensor) -> float | Tensor:
        """A worker's weight, from those that the processes give which run it together."""
        return weight

    def waiting(self) -> AbstractContextManager[None]:
        """Within, errors of waiting for other processes say what they are."""
        return nullcontext()

    @abstractmethod
    def settle(self) -> None:
        """Have the model's parameters in place, before a step looks at them."""

    @abstractmethod
    def check_step(self, passes: int, count: int) -> None:
        """Raise where a step of so many workers and passes cannot run on these processes."""

    @abstractmethod
    def settle_buffers(self, apart_from: Sequence[Tensor]) -> None:
        """Have the model's buffers alike on all processes; some are alike already."""


class OneProcess(Processes):
    """All workers run here, one after another: nothing to add up.

    Example:
        >>> one = OneProcess()
        >>> one.rank, one.ranks, one.reduces
        (0, 1, False)
    """

    def __init__(self, model: nn.Module | None = None) -> None:
        """Watch in each step's first pass that nobody has wrapped the model since."""
        self._model = self._watched = model

    def apart(self) -> AbstractContextManager[None]:
        """Every pass is."""
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if self._watched is None or not distributed:
            return nullcontext()
        return self._watching(self._watched)

    @contextmanager
    def _watching(self, model: nn.Module) -> Iterator[None]:
        handle = model.register_forward_pre_hook(_refuse_wrapped)
        try:
            yield
        finally:
            handle.remove()
        self._watched = None

    def together(self, join: Join) -> AbstractContextManager[None]:
        """Nothing is reduced, so nothing is joined."""
        return nullcontext()

    def late(self, join: Join, parameters: Sequence[Tensor]) -> None:
        """Nothing to do."""

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """One process's sum is the sum."""

    def settle(self) -> None:
        """They are."""

    def check_step(self, passes: int, count: int) -> None:
        """Every step can; its first pass is watched."""
        self._watched = self._model

    def settle_buffers(self, apart_from: Sequence[Tensor]) -> None:
        """They are."""


def _refuse_wrapped(model: nn.Module, args: object) -> None:
    if any(type(module).__name__.startswith("FSDP") for module in model.modules()):
        raise TypeError(
            "fully_shard was applied after Workers was made: apply it first, then make the "
            "optimizer from the sharded parameters, then Workers"
        )
    if DistributedDataParallel._active_ddp_module is not None:
        raise TypeError(
            "the model was wrapped in DistributedDataParallel after Workers was made with it, and "
            "would average the workers' gradients unseen: make Workers with the wrapped model"
        )
