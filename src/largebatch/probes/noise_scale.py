r"""The simple gradient noise scale, from the gradients that training computes anyway.

    tr(Sigma) = (sum_i b_i*||g_i||^2 - B*||g||^2)/(M - 1)        ||G||^2 = ||g||^2 - tr(Sigma)/B
    noise scale = tr(Sigma)/||G||^2                               both averaged over steps first

g_i: gradient of worker i's b_i examples; g = sum_i b_i*g_i/B; B = sum_i b_i; G: mean gradient;
Sigma: covariance of one example's gradient. In examples. With Cov(g_i) = Sigma/b_i the first two
are without bias at any b_i: E||g_i||^2 = ||G||^2 + tr(Sigma)/b_i, E||g||^2 = ||G||^2 + tr(Sigma)/B.
Their ratio is not, so that it is taken of averages. Examples must be drawn independently: of a
fixed set without replacement tr(Sigma) is as ever, but ||G||^2 misses tr(Sigma)/N.
Source: McCandlish et al. (2018), "An empirical model of large-batch training", Sec. 2 and App. A.1
(there from two batch sizes, which is the same at equal b_i).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..layout import layouts_of, totals
from ..whole import check_whole
from .averages import Averages
from .geometry import Geometry, Kind, check_geometry
from .noise_result import NoiseScaleResult, found
from .squares import SquareSums, squares

__all__ = ["NoiseScale"]

log = logging.getLogger("largebatch")


class NoiseScale:
    """Measures the gradient noise scale while training goes on: ``workers.listen(NoiseScale())``.

    It reads each worker's gradient once and keeps one number a parameter. Nothing is read on the
    host before :meth:`result`. A step whose gradients are not finite, or that had one worker, does
    not count. Over several processes every one hears the whole, and numbers are added up in one
    small message. Averages start anew where other parameters come into training. Where workers
    look at weights of their own (``perturb=``), that spreads their gradients too, and is in it.

    Args:
        examples: how many examples a weight of 1 stands for. Workers' weights are 1 unless
            ``next(weight=)`` says otherwise: then this is a worker's examples; where weights are
            examples, it is 1; with reduction "sum", where weights are shares of a process's total,
            it is the examples of one process's step (of processes that differ, their mean). May be
            set between steps.
        every: measure every so many steps only.
        decay: of the averages over measured steps, in [0, 1); 0 is the last step alone.
        geometry: "sign" and "spectral" for the noise scales in the geometry of sign descent and
            of Muon, see :mod:`largebatch.probes.geometry`: some copies of the parameters, and
            work that wants a larger ``every``.

    Raises:
        ValueError: an argument out of its range; ``listen``, with one worker in all.

    Example:
        >>> import largebatch as lb
        >>> model = torch.nn.Linear(4, 2)
        >>> workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.1), count=8)
        >>> probe = lb.NoiseScale(examples=32)
        >>> handle = workers.listen(probe)
        >>> x, y = torch.randn(256, 4), torch.randn(256, 2)
        >>> _ = workers.backward(lambda x, y: (model(x) - y).square().mean(), x, y)
        >>> found = probe.result()
        >>> found.batch_size, found.steps, found.covariance_trace > 0
        (256.0, 1, True)
    """

    least_workers = 2

    def __init__(
        self,
        examples: float = 1.0,
        *,
        every: int = 1,
        decay: float = 0.95,
        geometry: Sequence[Kind] = (),
    ) -> None:
        """Start with nothing heard."""
        if not 0 < examples < math.inf:
            raise ValueError(f"examples must be a finite number above 0, got {examples!r}")
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay!r}")
        self.examples = examples
        self._every = check_whole("every", every)
        self._decay = decay
        self._kinds = check_geometry(geometry)
        self._averages = Averages(decay)
        self._names: list[str] = []
        self._parameters: Sequence[Tensor] = ()
        self._first = 0
        self._measures = False
        self._measured = 0  # steps, also those that did not count
        self.forget()

    def numbered(self, first: int) -> None:
        """See :class:`~largebatch.contracts.Numbered`."""
        self._first = first

    def starts(self, step: int, names: Sequence[str], parameters: Sequence[Tensor]) -> None:
        """See :class:`~largebatch.contracts.Told`."""
        self._measures = step % self._every == 0 and bool(parameters)
        if not self._measures:
            return
        if self._names and list(names) != self._names:
            log.info("other parameters are in training: the noise scale's averages start anew")
            self._averages = Averages(self._decay)
        self._names, self._parameters = list(names), parameters
        self.forget()
        if self._geometry is not None:
            self._geometry.check(names, parameters)

    def forget(self) -> None:
        """The workers of the step that goes on do not count."""
        self._squares = SquareSums()
        self._weights: dict[int, float | Tensor] = {}
        self._numbers: Tensor | None = None
        self._geometry = Geometry(self._kinds) if self._kinds else None

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
        """See :class:`~largebatch.contracts.Listener`."""
        if not self._measures or not parameters:
            return
        self._weights[worker] = weight
        self._squares.add(parameters, gradients, factor**2 * weight)
        if self._geometry is not None:
            self._geometry.saw(self._first + worker, parameters, gradients, factor, weight)

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
        """See :class:`~largebatch.contracts.ListenerOfSeveral`."""
        size = next((len(g) for g in gradients if g is not None), 0)
        if not self._measures or not size:
            return
        self._weights.update(dict.fromkeys(range(first, first + size), weight))
        self._squares.add(parameters, gradients, factor**2 * weight)
        for row in range(size if self._geometry is not None else 0):
            each = [None if g is None else g[row] for g in gradients]
            assert self._geometry is not None
            self._geometry.saw(self._first + first + row, parameters, each, factor, weight)

    @torch.no_grad()
    def pooled(self) -> Sequence[Tensor]:
        """See :class:`~largebatch.contracts.Pooled`: one vector, and what the geometry needs."""
        if not self._measures:
            return []
        self._numbers = self._counted()
        if self._geometry is None:
            return [self._numbers]
        return [self._numbers, *self._geometry.pooled(self._parameters)]

    def _counted(self) -> Tensor:
        """Each parameter's sum of squares, the sum of the weights, the number of workers."""
        sums = self._squares.of(self._parameters)
        weight = sums.new_zeros(()) + sum(self._weights.values())
        workers = sums.new_full((), len(self._weights))
        return torch.cat([sums, torch.stack([weight, workers])])

    @torch.no_grad()
    def combined(self, gradients: Sequence[Tensor | None], *, factor: float | Tensor) -> None:
        """Estimate from the step's workers; see :class:`~largebatch.contracts.Listener`."""
        if not self._measures:
            return
        numbers = self._counted() if self._numbers is None else self._numbers
        weight, workers = numbers[-2:].unbind()
        mean = squares(gradients, numbers.device) * factor**2
        own, mean = self._whole(numbers[:-2], mean)
        variance = (own - weight * mean) / (workers - 1)  # of a gradient of weight 1
        square = mean - variance / weight
        here = {"trace": variance * self.examples, "square": square}
        here |= {"batch": weight * self.examples, "workers": workers}
        if self._geometry is not None:
            given = self._parameters, gradients, factor, weight, workers, self.examples
            here |= self._geometry.estimates(*given)
        # Nor is it finite of one worker; of a short group a half may be empty, as the signals show.
        sound = variance.sum() + square.sum() + sum(here[kind] for kind in self._kinds)
        self._averages.add(torch.isfinite(sound), here)
        self._measured += 1
        self._measures = False
        self.forget()

    def _whole(self, own: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over whole parameters, where they are cut over processes."""
        layouts = layouts_of(self._parameters)
        if all(layout.sharding is None for layout in layouts):
            return own, mean
        both = totals(layouts, list(torch.stack([own, mean], 1).unbind()))
        first, second = torch.stack(both).unbind(1)
        return first, second

    @property
    def noise_scale(self) -> Tensor:
        """The present one, for a batch-size schedule's ``observe``; 0-dim, not read on the host.

        NaN before a step has counted, and where the estimate of ||G||^2 is not above 0.
        """
        if self._averages.empty:
            return torch.tensor(math.nan, dtype=torch.float64)
        trace, square = (self._averages.mean(name).sum() for name in ("trace", "square"))
        return torch.where(square > 0, trace / square, math.nan)

    def result(self) -> NoiseScaleResult:
        """What was found up to now; read on the host.

        Raises:
            RuntimeError: no step has counted yet.
        """
        if not self._averages.steps:
            raise RuntimeError(_nothing(self._measured))
        return found(self._averages, self._names, self._kinds)

    def state_dict(self) -> dict[str, Any]:
        """The averages; tensors, numbers and names only. Alike on all processes."""
        averages = self._averages.state_dict()
        shown = {"names": list(self._names), "geometry": list(self._kinds)}
        return {**shown, "measured": self._measured, "averages": averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`; ValueError for another geometry's."""
        if tuple(state["geometry"]) != self._kinds:
            raise ValueError(
                f"the state is of geometry={tuple(state['geometry'])}, this NoiseScale has "
                f"{self._kinds}: make it alike, or start anew"
            )
        self._names, self._measured = list(state["names"]), int(state["measured"])
        self._averages.load_state_dict(state["averages"])
        self.forget()


def _nothing(measured: int) -> str:
    if measured:
        return (
            f"none of the {measured} steps that NoiseScale has measured counts: it needs two "
            "workers a step, over all processes, and gradients that are finite"
        )
    return (
        "NoiseScale has heard no step yet: workers.listen(probe), then run a whole step with two "
        "workers or more"
    )
