"""A step with workers in the plainest words, without Workers: what its tests hold it against.

Only where a worker looks (`offsets`) and what a rule makes of a gradient are the method's own;
both are held against their equations elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from every_method import Row
from torch import Tensor, nn
from torch.func import functional_call

from largebatch.contracts import Listener, Point

Loss = Callable[[Tensor, Tensor], Tensor]


class Naive:
    """Trains a model whose parameters are all in training, none tied."""

    def __init__(self, model: nn.Module, row: Row, count: int, loss: Loss, clip: float = 0.0):
        self.model, self.row, self.count, self.loss, self.clip = model, row, count, loss, clip
        self.named = dict(model.named_parameters())
        self.parameters = list(self.named.values())
        self.optimizer = row.rule(self.parameters)
        self.memories: list[list[Tensor] | None] = [None] * count
        self.shown: Any = None
        self.step = 0

    def gradient(self, offsets: Any, x: Tensor, y: Tensor) -> tuple[list[Tensor], dict]:
        """The gradient at other weights, and the buffers that it leaves."""
        buffers = {name: each.clone() for name, each in self.model.named_buffers()}
        pairs = zip(self.named.items(), offsets or [None] * len(self.named), strict=True)
        moved = {n: w.detach() if o is None else w.detach() + o for (n, w), o in pairs}
        moved = {name: each.requires_grad_() for name, each in moved.items()}
        loss = self.loss(functional_call(self.model, (moved, buffers), x), y)
        return list(torch.autograd.grad(loss, list(moved.values()))), buffers

    def rates(self, kind: str | None) -> list[Any]:
        layerwise, [group] = getattr(self.optimizer, "layerwise", None), self.optimizer.param_groups
        if kind == "global" or not layerwise:
            return [group["lr"]] * len(self.parameters)
        states = [self.optimizer.state.get(p, {}) for p in self.parameters]
        return [group["lr"] * state.get("scale", 0.0) for state in states]

    def looks(self, xs: Sequence[Tensor], ys: Sequence[Tensor]) -> list[Any]:
        """What each worker's offset is made from."""
        perturb = self.row.perturb
        if perturb is None or perturb.passes(self.step) == 1:
            return self.memories
        places = range(self.count)
        if perturb.elsewhere(self.step):
            places = [*range(1, self.count), 0]
        found = [self.gradient(None, xs[i], ys[i])[0] for i in places]
        return found if perturb.scope(self.step) == "worker" else [mean(found)] * self.count

    def refresh(self, x: Tensor, y: Tensor) -> None:
        kept = {name: each.clone() for name, each in self.model.named_buffers()}
        perturb = self.row.perturb
        if getattr(self.optimizer, "refreshes", False):
            self.optimizer.refresh(lambda: self.loss(self.model(x), y))
        if perturb is not None and perturb.refreshes:
            self.shown = perturb.refresh(
                lambda: self.loss(self.model(x), y), self.parameters, self.step
            )
        for name, each in self.model.named_buffers():
            each.copy_(kept[name])

    def offsets(self, looks: list[Any]) -> list[Any]:
        perturb = self.row.perturb
        if perturb is None:
            return [None] * self.count
        point = Point(
            self.step,
            [p.detach() for p in self.parameters],
            self.rates,
            workers=self.count,
            memories=lambda: [each for each in self.memories if each is not None],
            shown=self.shown,
        )
        return [perturb.offsets(point, i, looks[i]) for i in range(self.count)]

    def train(self, x: Tensor, y: Tensor) -> None:
        xs, ys = x.chunk(self.count), y.chunk(self.count)
        perturb, noise = self.row.perturb, self.row.noise
        ran = [
            self.gradient(offset, *shard)
            for offset, *shard in zip(self.offsets(self.looks(xs, ys)), xs, ys, strict=True)
        ]
        own, buffers = zip(*ran, strict=True)
        whole = mean(own)
        kind = "nothing" if perturb is None else perturb.remembers(self.step)
        for i, each in enumerate(own):
            noises = [g - m for g, m in zip(each, whole, strict=True)]
            self.memories[i] = {"nothing": None, "gradient": each, "noise": noises}[kind]
        self.tell(own, whole)
        if noise is not None and noise.placement == "gradient":
            noise.add(whole, self.step, 1.0)
        if self.clip:
            norm = torch.cat([g.flatten() for g in whole]).norm()
            assert norm > self.clip
            whole = [g * self.clip / (norm + 1e-6) for g in whole]
        for p, g in zip(self.parameters, whole, strict=True):
            p.grad = g
        self.optimizer.step()
        if noise is not None and noise.placement == "weights":
            noise.add([p.detach() for p in self.parameters], self.step, 1.0)
        for name, each in self.model.named_buffers():
            left = torch.stack([b[name].double() for b in buffers]).mean(0)
            each.copy_(left)
        self.step += 1

    def tell(self, own: Sequence[list[Tensor]], whole: list[Tensor]) -> None:
        if isinstance(self.optimizer, Listener):
            for i, each in enumerate(own):
                self.optimizer.saw(i, self.parameters, each, factor=1.0, weight=1.0)
            self.optimizer.combined(whole, factor=1.0)


def mean(lists: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    return [torch.stack(each).mean(0) for each in zip(*lists, strict=True)]
