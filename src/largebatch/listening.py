"""Who hears each worker's gradient as it arrives, and what of it they may ask.

saw(g_1's pieces), ..., saw(g_M's pieces)  →  pooled over processes  →  combined(g)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["Listener", "ListenerOfSeveral", "Pooled", "Told"]


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
class Pooled(Protocol):
    """A listener that wants numbers of its own added up over processes.

    Where there are several, :class:`~largebatch.Workers` asks before ``combined``.
    """

    def pooled(self) -> Sequence[Tensor]:
        """What is to be replaced by its sum over processes, in place.

        Of the same number, shapes and dtypes on every process, whatever its workers have shown.
        """
