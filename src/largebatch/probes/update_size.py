r"""How far an update moves the weights, layer by layer, and how long the momentum is.

    size = mean over a layer's weights of the magnitude of w_{t+1} - w_t        size/eta
    searched space = sum over steps of the sizes
    ||u|| <= 1/(1 - beta)        for momentum of gradients of length 1

w_t: weights before step t; eta: the layer's learning rate at that step; u: momentum, beta: its
decay. Sizes have the weights' unit.
Sources: CURV, Figs. 4 and 5 and the space that it calls searched; Zhao et al. (SNGM, 2024),
Lemma 2, whose u is of all parameters at once (block-wise: of each block).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..layout import layouts_of, totals
from ..measure import wide
from ..mesh import local
from ..whole import check_whole
from .attached import Attached, attached
from .squares import squares

__all__ = ["UpdateSize", "UpdateSizeResult"]


@dataclass(frozen=True)
class UpdateSizeResult:
    """Of the last measured step; lists are aligned with ``layers``.

    Attributes:
        layers: names of the parameters that moved or could have.
        mean_magnitude: mean magnitude of each one's update.
        lr: the learning rate of each.
        mean_magnitude_over_lr: the one over the other; NaN at a rate of 0.
        searched_space: sum of the sizes over all steps since the parameters in training last
            changed; of every k-th step, k times theirs.
        momentum_norm: ||u|| of each; None where the optimizers keep no momentum of this kind.
        momentum_total: ||u|| of all together; None likewise.
        momentum_bound: 1/(1 - beta), with the largest beta; None likewise.
        steps: how many steps were measured.
    """

    layers: list[str]
    mean_magnitude: list[float]
    lr: list[float]
    mean_magnitude_over_lr: list[float]
    searched_space: list[float]
    momentum_norm: list[float] | None
    momentum_total: float | None
    momentum_bound: float | None
    steps: int


@dataclass
class _Moved:
    """What one optimizer's steps have done.

    Attributes:
        owners: its parameters.
        steps: how many it has taken.
        measured: how many of them were measured.
        kept: the weights before the step that goes on.
        rates: of each parameter at the last measured step.
        sums: of magnitudes of that step's update.
        searched: of all steps'.
    """

    owners: list[Tensor]
    steps: int = 0
    measured: int = 0
    kept: list[Tensor] = field(default_factory=list)
    rates: list[float | Tensor] = field(default_factory=list)
    sums: Tensor | None = None
    searched: Tensor | None = None


class UpdateSize:
    """Measures updates of whatever steps a model: ``UpdateSize(model).attach(optimizer)``.

    A measured step holds a copy of the weights and goes through it once more. Nothing is read on
    the host before :meth:`result`. Momentum is read there alone, as torch's SGD and the update
    rules of this package keep it; in velocity form over the rate that it has taken in.

    Args:
        model: whose parameters give the layers their names.
        every: measure every so many steps only.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        >>> probe = UpdateSize(model)
        >>> handle = probe.attach(optimizer)
        >>> model(torch.tensor([[3.0, 1.0]])).sum().backward()
        >>> optimizer.step()
        >>> found = probe.result()
        >>> found.mean_magnitude_over_lr, round(found.momentum_total, 3)
        ([2.0], 3.162)
    """

    def __init__(self, model: nn.Module, *, every: int = 1) -> None:
        """Start with nothing measured."""
        self._model = model
        self._every = check_whole("every", every)
        self._moved: dict[Optimizer, _Moved] = {}

    def attach(self, *optimizers: Optimizer) -> Attached:
        """Measure from now on; ``handle.remove()`` ends it. TypeError for what is no optimizer."""
        return attached(optimizers, self._before, self._after)

    @torch.no_grad()
    def _before(self, optimizer: Optimizer) -> None:
        pairs = [
            (p, g["lr"]) for g in optimizer.param_groups for p in g["params"] if p.requires_grad
        ]
        owners = [p for p, _ in pairs]
        known = self._moved.get(optimizer)
        if known is None or list(map(id, known.owners)) != list(map(id, owners)):
            known = self._moved[optimizer] = _Moved(owners)
        known.steps += 1
        if (known.steps - 1) % self._every or not owners:
            return
        known.kept = [local(p).detach().clone() for p in owners]
        known.rates = [lr.detach().clone() if isinstance(lr, Tensor) else lr for _, lr in pairs]

    @torch.no_grad()
    def _after(self, optimizer: Optimizer) -> None:
        moved = self._moved.get(optimizer)
        if moved is None or not moved.kept:
            return
        kept, moved.kept = moved.kept, []
        for before, owner in zip(kept, moved.owners, strict=True):
            before.sub_(local(owner))
        where = kept[0].device
        sums = [each.abs_().sum(dtype=wide(each.dtype)).to(where, torch.float64) for each in kept]
        moved.sums = torch.stack(sums)
        more = moved.sums * self._every
        moved.searched = more if moved.searched is None else moved.searched + more
        moved.measured += 1

    @torch.no_grad()
    def result(self) -> UpdateSizeResult:
        """What was found up to now; read on the host. Of sharded weights all processes call it.

        Raises:
            RuntimeError: no step was measured yet.
        """
        found = [(o, m) for o, m in self._moved.items() if m.sums is not None]
        if not found:
            raise RuntimeError(
                "UpdateSize has measured no step yet: probe.attach(optimizer), then step it"
            )
        names = {id(p): name for name, p in self._model.named_parameters()}
        rows = [row for optimizer, moved in found for row in _rows(optimizer, moved, names)]
        place = {name: i for i, name in enumerate(names.values())}
        rows.sort(key=lambda row: place.get(row["name"], len(place)))
        momenta = [row["momentum"] for row in rows]
        held = any(each is not None for each in momenta)
        norms = [each or 0.0 for each in momenta]
        betas = [beta for row in rows if (beta := row["beta"]) is not None]
        return UpdateSizeResult(
            layers=[row["name"] for row in rows],
            mean_magnitude=[row["size"] for row in rows],
            lr=[row["lr"] for row in rows],
            mean_magnitude_over_lr=[
                row["size"] / row["lr"] if row["lr"] else math.nan for row in rows
            ],
            searched_space=[row["searched"] for row in rows],
            momentum_norm=norms if held else None,
            momentum_total=math.hypot(*norms) if held else None,
            momentum_bound=1 / (1 - max(betas)) if held and betas else None,
            steps=max(moved.measured for _, moved in found),
        )


def _rows(optimizer: Optimizer, moved: _Moved, names: dict[int, str]) -> list[dict[str, Any]]:
    assert moved.sums is not None
    assert moved.searched is not None
    layouts = layouts_of(moved.owners)
    both = totals(layouts, list(torch.stack([moved.sums, moved.searched], 1).unbind()))
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    momenta = _momenta(optimizer, moved.owners, groups)
    rows = []
    for j, owner in enumerate(moved.owners):
        size, searched = (both[j] / max(owner.numel(), 1)).tolist()
        rows.append(
            {
                "name": names.get(id(owner), f"parameter {j}"),
                "size": size,
                "searched": searched,
                "lr": float(moved.rates[j]),
                "momentum": momenta[j],
                "beta": None if momenta[j] is None else groups[id(owner)].get("momentum"),
            }
        )
    return rows


def _momenta(
    optimizer: Optimizer, owners: Sequence[Tensor], groups: dict[int, Any]
) -> list[float | None]:
    """||u|| of each parameter; None of one that has no momentum."""
    buffers = [optimizer.state.get(p, {}).get("momentum_buffer") for p in owners]
    present = [j for j, each in enumerate(buffers) if each is not None]
    if not present:
        return [None] * len(owners)
    own = squares(buffers, owners[0].device)
    whole = totals(layouts_of(owners), list(own.unbind()))
    found: list[float | None] = [None] * len(owners)
    for j in present:
        unit = float(optimizer.state[owners[j]].get("momentum_scale", 1.0))
        group = groups[id(owners[j])]
        if group.get("form") == "velocity":
            unit = unit / float(group["lr"]) if float(group["lr"]) else math.nan
        found[j] = math.sqrt(float(whole[j])) * unit
    return found
