"""Who hears each worker's gradient as it arrives, and what of it they may ask.

saw(g_1's pieces), ..., saw(g_M's pieces)  →  pooled over processes  →  combined(g)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

__all__ = [
    "Listener",
    "ListenerOfSeveral",
    "Numbered",
    "Pooled",
    "Told",
    "check_listener",
    "introduce",
]


@runtime_checkable
class Listener(Protocol):
    """Sees each worker's own gradient as it arrives, and then the combined one.

    An optimizer given to :class:`~largebatch.Workers` that has these methods is told.
    """

    def saw(
        self,
        worker: int,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        *,
        factor: float | Tensor,
        weight: float | Tensor,
    ) -> None:
        """A piece of local worker ``worker``'s gradient; None stands for zero.

        ``factor`` times the tensors is the worker's g_i (it undoes loss scale and reduction).
        The tensors are overwritten right after.
        """

    def combined(self, gradients: Sequence[Tensor | None], *, factor: float | Tensor) -> None:
        """The mean over all workers; ``factor`` undoes the loss scale."""

    def forget(self) -> None:
        """The workers seen since the last ``combined`` do not count: their step starts anew."""


@runtime_checkable
class ListenerOfSeveral(Protocol):
    """A listener that takes several workers' gradients faster together than one by one."""

    def saw_several(
        self,
        first: int,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        *,
        factor: float | Tensor,
        weight: float | Tensor,
    ) -> None:
        """As :meth:`Listener.saw`, of the workers from ``first`` on, a row for each.

        ``weight`` is that of each.
        """


@runtime_checkable
class Told(Protocol):
    """A listener that wants to know whose gradients it will see."""

    def starts(self, step: int, names: Sequence[str], parameters: Sequence[Tensor]) -> None:
        """Step ``step`` begins; ``combined`` will have a gradient for each of ``parameters``.

        They are those that the optimizers hold and that are in training, named as in the model.
        """


@runtime_checkable
class Numbered(Protocol):
    """A listener that wants to know which of all workers are this process's."""

    @property
    def least_workers(self) -> int:
        """Fewest workers, over all processes, of which it can say anything."""

    def numbered(self, first: int) -> None:
        """Local worker 0 of the step that begins is number ``first`` over all processes."""


@runtime_checkable
class Pooled(Protocol):
    """A listener that wants numbers of its own added up over processes.

    Where there are several, :class:`~largebatch.Workers` asks before ``combined``.
    """

    def pooled(self) -> Sequence[Tensor]:
        """What is to be replaced by its sum over processes, in place.

        Of the same number, shapes and dtypes on every process, whatever its workers have shown.
        """


def check_listener(listener: object, count: int, ranks: int) -> None:
    """Raise TypeError for what is no listener, ValueError where it needs more workers."""
    if not isinstance(listener, Listener) or isinstance(listener, type):
        own = "your own has the methods of largebatch.contracts.Listener"
        attached = "attach it to the optimizer instead, probe.attach(optimizer)"
        raise TypeError(
            f"listen() takes a listener such as largebatch.NoiseScale(), got {listener!r}: "
            f"{attached if hasattr(listener, 'attach') else own}"
        )
    if isinstance(listener, Numbered) and ranks * count < listener.least_workers:
        raise ValueError(
            f"{type(listener).__name__} needs at least {listener.least_workers} workers in all, "
            f"got {ranks * count} (count={count}): raise count so that each batch is shared; under "
            "DistributedDataParallel give Workers the wrapped model, not its .module"
        )


def introduce(
    listeners: Sequence[Listener],
    first: int,
    step: int,
    model: nn.Module,
    parameters: Sequence[Tensor],
) -> None:
    """Tell listeners that step ``step`` begins, what they will hear of, and of which workers."""
    for each in listeners:
        if isinstance(each, Numbered):
            each.numbered(first)
    told = [each for each in listeners if isinstance(each, Told)]
    if not told:
        return
    if isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module  # names are those of one process
    known = {id(p): name for name, p in model.named_parameters()}
    names = [known.get(id(p), f"parameter {j}") for j, p in enumerate(parameters)]
    for one in told:
        one.starts(step, names, parameters)
