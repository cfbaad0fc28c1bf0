"""When gradient noise joins: in ``combine``, or after the optimizer's step.

    combine: g + noise  →  clipping  →  step                placement "gradient"
    combine             →  clipping  →  step: w + noise     placement "weights"

What the noise is, :class:`~largebatch.contracts.GradientNoise` says.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .settings import Settings

__all__ = ["AddedNoise"]


class AddedNoise:
    """Adds a step's noise once, to the gradients or to what each optimizer's step leaves.

    Noise on weights belongs to a combined gradient: the optimizer's first step after ``combine``
    adds it, and one that a scaler skips does not; with the next worker it is forgotten.
    """

    def __init__(self, settings: Settings) -> None:
        """Follow the optimizers' steps where the noise is theirs."""
        self._settings = settings
        self._due: dict[int, int] = {}  # by id of the optimizer: the step that was combined
        noise = settings.gradient_noise
        if noise is not None and noise.placement == "weights":
            for optimizer in settings.optimizers:
                self._follow(optimizer)

    def _follow(self, optimizer: Optimizer) -> None:
        # The optimizer may outlive us: its hook must not keep us, and with us the model, alive.
        me = weakref.ref(self)

        def after_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            if (alive := me()) is not None:
                alive._after_step(optimizer)

        # Where somebody compiles the step, numbers of steps and draws stay out of it.
        eager = torch.compiler.disable(after_step)  # type: ignore[no-untyped-call]
        handle = optimizer.register_step_post_hook(eager)
        weakref.finalize(self, handle.remove).atexit = False

    def forget(self) -> None:
        """No step that was combined still waits for its noise."""
        self._due = {}

    @torch.no_grad()
    def combined(
        self, parameters: Sequence[Tensor], gradients: Sequence[Tensor | None], step: int
    ) -> None:
        """Add to the gradients that step ``step`` has combined, or await the optimizers' steps."""
        noise = self._settings.gradient_noise
        if noise is None:
            return
        if noise.placement == "weights":
            self._due = {id(each): step for each in self._settings.optimizers}
            return
        given = {id(p): g for p, g in zip(parameters, gradients, strict=True)}
        noise.add(
            [given.get(id(p)) for p, _ in self._settings.held()], step, self._settings.loss_scale()
        )

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer) -> None:
        noise, step = self._settings.gradient_noise, self._due.pop(id(optimizer), None)
        if noise is None or step is None:
            return
        stepped = [
            p.detach() if owner is optimizer and p.grad is not None else None
            for p, owner in self._settings.held()
        ]
        noise.add(stepped, step, _not_skipped(optimizer))


def _not_skipped(optimizer: Optimizer) -> float | Tensor:
    """0 where a fused optimizer leaves its weights alone, as GradScaler has told it; else 1."""
    found: Tensor | None = getattr(optimizer, "found_inf", None)
    return 1.0 if found is None else (found == 0).to(torch.float32)
