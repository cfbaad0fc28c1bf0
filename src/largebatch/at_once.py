"""Several of one process's workers at once: their passes as one, mapped over by torch.func.

    (g_1, ..., g_K) = vmap(grad f)(d_1..d_K; w + offset_1, ..., w + offset_K)

K copies of the weights that are perturbed, K gradients and K workers' activations are held at once,
for one K-th of the calls: small passes cost less by as much as calls cost more than arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from .batching.shard import split_batch
from .checks import check_at_once, check_inner
from .losses import backward, one_number
from .passes import Passes
from .settings import Settings

__all__ = ["AtOnce"]


class AtOnce:
    """Runs the workers of a step in groups, each group as one pass.

    A model's parameters that the loss does not reach have no gradient: which these are, the first
    worker says in an ordinary pass, whenever other parameters are in training than before.
    """

    def __init__(self, model: nn.Module, settings: Settings, passes: Passes) -> None:
        """Know nothing of the model yet."""
        self._model = model
        self._settings = settings
        self._passes = passes
        self._seen: object = None  # with which parameters, and in which mode, it was tried
        self._reached: list[bool] = []

    def losses(
        self,
        fn: Callable[..., Tensor],
        batch: tuple[Any, ...],
        inner: tuple[Any, ...] | None,
        size: int,
    ) -> list[Tensor]:
        """Every worker's loss, detached and not scaled; the gradients are with the passes then.

        Args:
            fn: as for ``Workers.backward``.
            batch: as for ``Workers.backward``.
            inner: refused, since methods of two passes are.
            size: how many workers run at once.
        """
        settings, passes = self._settings, self._passes
        passes.forget()
        check_inner(settings.perturb, False, inner)
        check_at_once(self._model, settings.perturb, passes.step, settings.processes.places)
        pieces = list(split_batch(batch, settings.count))
        found, start = [], 0
        if self._seen != self._kind():
            found.append(self._first(fn, pieces[0]))
            start = 1
        for first in range(start, settings.count, size):
            found.append(self._several(fn, pieces[first : first + size], first))
        return found

    def _kind(self) -> object:
        trained = (id(p) for p in self._model.parameters() if p.requires_grad)
        return *trained, *(module.training for module in self._model.modules())

    def _first(self, fn: Callable[..., Tensor], piece: tuple[Any, ...]) -> Tensor:
        settings, passes = self._settings, self._passes
        with passes.enter(settings.share(None), None):
            loss = backward(fn, piece, settings.scaler)
            self._reached = [p.grad is not None for p in passes.trained]
        self._seen = self._kind()
        return loss

    def _several(
        self, fn: Callable[..., Tensor], pieces: Sequence[tuple[Any, ...]], first: int
    ) -> Tensor:
        """The losses of the workers from ``first`` on, one for each piece."""
        weight = self._settings.share(None)
        with self._passes.enter_several(first, len(pieces), weight) as group:
            names = self._names(group.parameters)
            chosen = [j for j, reached in enumerate(self._reached) if reached]
            scale = self._settings.loss_scale()
            mapped = _Mapped(self._model, fn, [names[j] for j in chosen], scale)
            gradients, losses = mapped([group.weights[j] for j in chosen], pieces)
            group.gradients = [None] * len(names)
            for j, gradient in zip(chosen, gradients, strict=True):
                group.gradients[j] = gradient
        return losses

    def _names(self, parameters: Sequence[Tensor]) -> list[str]:
        known = {id(p): name for name, p in self._model.named_parameters()}
        if any(id(p) not in known for p in parameters):
            raise ValueError(
                "at_once= needs all parameters in training to be the model's, but the optimizer "
                "holds others: make them part of the model, or leave at_once out"
            )
        return [known[id(p)] for p in parameters]


class _Loss(nn.Module):
    """The loss as a module's output, so that its parameters can be exchanged."""

    def __init__(self, model: nn.Module, fn: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model = model
        self._fn = fn

    def forward(self, *batch: Any) -> Tensor:
        return one_number(self._fn(*batch))


class _Mapped:
    """Gradients and losses of several workers, each with its own weights and its own piece."""

    def __init__(
        self,
        model: nn.Module,
        fn: Callable[..., Tensor],
        names: Sequence[str],
        scale: float | Tensor,
    ) -> None:
        self._module = _Loss(model, fn)
        self._names = [f"model.{name}" for name in names]
        self._scale = scale

    def __call__(
        self, weights: Sequence[tuple[Tensor, bool]], pieces: Sequence[tuple[Any, ...]]
    ) -> tuple[Sequence[Tensor], Tensor]:
        """Gradients, stacked, and losses; of each weight, whether it differs among workers."""
        leaves = [tree_flatten(piece) for piece in pieces]
        self._form = leaves[0][1]
        columns = list(zip(*(each for each, _ in leaves), strict=True))
        along = [0 if isinstance(c[0], Tensor) and c[0].ndim else None for c in columns]
        pairs = zip(columns, along, strict=True)
        given = [c[0] if place is None else torch.stack(c) for c, place in pairs]
        places = [0 if apart else None for _, apart in weights]
        one = grad_and_value(self._one, has_aux=True)
        mapped = vmap(one, in_dims=(tuple(places), tuple(along)), randomness="different")
        try:
            gradients, (_, losses) = mapped(tuple(w for w, _ in weights), tuple(given))
        except RuntimeError as error:
            error.add_note(
                "at_once= maps over workers with torch.func.vmap, which does not take every "
                "model or loss: leave it out, and workers run one after another"
            )
            raise
        return gradients, losses.detach()

    def _one(self, weights: tuple[Tensor, ...], given: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        batch = tree_unflatten(list(given), self._form)
        exchanged = dict(zip(self._names, weights, strict=True))
        loss = functional_call(self._module, exchanged, tuple(batch))
        return loss * self._scale, loss
