"""What is remembered of each worker from one step for the next, one slot per local worker.

    slot_i = g_i while the step runs, then omega_i = g_i - g ("noise") or still g_i ("gradient")

Bytes: count x parameters x size of the noise dtype, allocated once. Source of omega: GNC, Eq. 4.
The noise sums to zero over the workers up to the rounding of the noise dtype: in bfloat16 its
mean over workers is about 1e-3 of one worker's noise (measured: 0.7e-3 to 3e-3, 64 to 2 workers).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from .contracts import Memorized
from .layout import Layout, everywhere, layouts_of
from .mesh import local

__all__ = ["Memory", "all_finite", "bytes_needed"]

DTYPES = (torch.float32, torch.bfloat16, torch.float64)
log = logging.getLogger("largebatch")


def bytes_needed(parameters: Sequence[Tensor], count: int, dtype: torch.dtype | None) -> int:
    """Bytes of ``count`` slots for these parameters (dtype None: each parameter's own)."""
    return count * sum(local(p).numel() * (dtype or p.dtype).itemsize for p in parameters)


class Memory:
    """Slots of ``count`` local workers; a :class:`~largebatch.contracts.Listener`.

    Args:
        kind: "noise" or "gradient".
        parameters: the parameters in a fixed order.
        count: local workers.
        dtype: of the slots; None takes each parameter's own.
    """

    def __init__(
        self, kind: Memorized, parameters: Sequence[Tensor], count: int, dtype: torch.dtype | None
    ) -> None:
        """Allocate the slots, all zero, and say how many bytes that takes."""
        size = bytes_needed(parameters, count, dtype)
        log.info("%d workers' %s takes %.1f MB", count, kind, size / 1e6)
        self.kind = kind
        self.dtype = dtype
        self.parameters = list(parameters)
        self.count = count
        self._layouts = layouts_of(parameters)
        self._blocks: dict[int, Tensor] = {}  # by id of the parameter: (count, *its shape)
        self.buffers = self._allocate()
        self._views: tuple[int, dict[int, Tensor]] = (-1, {})  # of the worker asked for last
        self._ran = 0
        self.filled = False

    def _allocate(self) -> list[Tensor]:
        sizes: dict[tuple[torch.device, torch.dtype], int] = {}
        starts = []
        pieces = [local(p) for p in self.parameters]
        for p in pieces:
            where = (p.device, self.dtype or p.dtype)
            starts.append((where, sizes.get(where, 0)))
            sizes[where] = sizes.get(where, 0) + p.numel()
        made = {
            where: torch.zeros(self.count, size, device=where[0], dtype=where[1])
            for where, size in sizes.items()
        }
        for p, piece, (where, start) in zip(self.parameters, pieces, starts, strict=True):
            columns = made[where].narrow(1, start, piece.numel())
            self._blocks[id(p)] = columns.view(self.count, *piece.shape)
        return list(made.values())

    def fits(self, kind: Memorized, parameters: Sequence[Tensor]) -> bool:
        """Whether this memory is of that kind, and of exactly these parameters where they are."""
        if kind != self.kind or len(parameters) != len(self.parameters):
            return False
        return all(
            a is b and a.device == self._blocks[id(b)].device
            for a, b in zip(parameters, self.parameters, strict=True)
        )

    def of(self, worker: int) -> list[Tensor] | None:
        """The slot of one worker as one tensor per parameter; None before the first step."""
        return [self._slot(worker, p) for p in self.parameters] if self.filled else None

    def of_several(self, first: int, size: int) -> list[Tensor] | None:
        """The slots of ``size`` workers from ``first`` on, a row for each; as :meth:`of`."""
        if not self.filled:
            return None
        return [self._blocks[id(p)].narrow(0, first, size) for p in self.parameters]

    def _slot(self, worker: int, parameter: Tensor) -> Tensor:
        if self._views[0] != worker:
            self._views = worker, {key: b.select(0, worker) for key, b in self._blocks.items()}
        return self._views[1][id(parameter)]

    @torch.no_grad()
    def saw(
        self,
        worker: int,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        *,
        factor: float | Tensor,
        weight: float | Tensor,
    ) -> None:
        """Store a worker's gradient in its slot, over the noise that it has looked with.

        The slot is written last: where scaling finds no room, it stays as it was.
        """
        slots = [self._slot(worker, p) for p in parameters]
        given = [(s, g) for s, g in zip(slots, gradients, strict=True) if g is not None]
        if given:
            targets = [s for s, _ in given]
            _copy_scaled(targets, [g for _, g in given], factor)
        for slot, gradient in zip(slots, gradients, strict=True):
            if gradient is None:
                slot.zero_()
        self._ran = max(self._ran, worker + 1)

    @torch.no_grad()
    def saw_several(
        self,
        first: int,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        *,
        factor: float | Tensor,
        weight: float | Tensor,
    ) -> None:
        """As :meth:`saw`, of the workers from ``first`` on, a row for each."""
        size = next(len(g) for g in gradients if g is not None)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            slots = self._blocks[id(parameter)].narrow(0, first, size)
            if gradient is None:
                slots.zero_()
            else:
                _copy_scaled([slots], [gradient], factor)
        self._ran = max(self._ran, first + size)

    @torch.no_grad()
    def combined(self, gradients: Sequence[Tensor | None], *, factor: float | Tensor) -> None:
        """Turn g_i into omega_i = g_i - g; all zero when g is not finite, without a host sync."""
        finite = all_finite(gradients, self._layouts)
        if self.kind == "noise":
            self._subtract(gradients, factor)
        for buffer in self.buffers:
            # One worker's infinity would otherwise stay in the offsets for ever.
            if finite.device.type == buffer.device.type == "cpu":
                if not finite:  # read where that costs nothing: a pass over all slots does
                    buffer.zero_()
            else:
                buffer.masked_fill_(~finite.to(buffer.device), 0.0)
            buffer[self._ran :].zero_()
        self._ran, self.filled = 0, True

    def _subtract(self, gradients: Sequence[Tensor | None], factor: float | Tensor) -> None:
        rows: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for p, g in zip(self.parameters, gradients, strict=True):
            slot = self._slot(0, p)
            mean = torch.zeros_like(slot) if g is None else (g * factor).to(slot.dtype)
            rows.setdefault((slot.device, slot.dtype), []).append(mean.reshape(-1))
        for buffer in self.buffers:
            # The mean of all weights in one row: slots are gone through once, from end to end.
            buffer[: self._ran].sub_(torch.cat(rows[buffer.device, buffer.dtype]))

    def forget(self) -> None:
        """Start from zero: slots hold gradients of some workers by now and noise of others."""
        for buffer in self.buffers:
            buffer.zero_()
        self._ran = 0

    def restore(self, slots: Sequence[Tensor]) -> None:
        """Take the slots over from a saved state."""
        shapes = [tuple(b.shape) for b in self.buffers]
        if [tuple(s.shape) for s in slots] != shapes:
            raise ValueError(
                f"the state's slots have shapes {[tuple(s.shape) for s in slots]}, these "
                f"parameters need {shapes}: was it saved from another model or noise dtype?"
            )
        for buffer, slot in zip(self.buffers, slots, strict=True):
            buffer.copy_(slot)
        self.filled = True


def _copy_scaled(targets: list[Tensor], sources: list[Tensor], factor: float | Tensor) -> None:
    if isinstance(factor, float | int) and factor == 1:
        torch._foreach_copy_(targets, sources)
        return
    # Scaled before it is rounded to the noise dtype: a loss scale must not cost it its range.
    torch._foreach_copy_(targets, [source * factor for source in sources])


def all_finite(gradients: Sequence[Tensor | None], layouts: Sequence[Layout] = ()) -> Tensor:
    """Whether all are, 0-dim on the first one's device: nothing is read on the host.

    With ``layouts``, of this process's pieces and of the others'.
    """
    given = [g for g in gradients if g is not None]
    found = _finite_here([g for g in given if g.numel()])
    return everywhere(layouts, found.to(given[0].device) if given else found)


def _finite_here(present: list[Tensor]) -> Tensor:
    if not present:
        return torch.tensor(True)
    if all(g.device.type == "cpu" for g in present):
        # One pass that uses vectors, of which the maximum norm makes none here. NaN shows in both.
        extremes = [extreme for g in present for extreme in torch.aminmax(g)]
    else:
        extremes = list(torch._foreach_norm(present, float("inf")))
    return torch.stack([each.to(present[0].device) for each in extremes]).isfinite().all()
