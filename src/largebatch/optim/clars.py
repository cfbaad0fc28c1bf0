r"""CLARS: LARS with the workers' own gradient norms in place of the combined gradient's.

    n = mean over workers of ||g_i||        s = min(tau * ||w|| / (n + eps), cap)
    u <- beta*u + g + lambda*w              w <- w - eta*s*u

w: the weights of one layer, here one parameter; g_i: worker i's gradient, g: the combined one;
||.||: Euclidean norm; s: one number a parameter; tau: trust coefficient; lambda: weight decay;
eta: learning rate. n is at least ||g||, the more the workers disagree: a layer whose gradient is
noise takes shorter steps, so that no warm-up is needed. s = 1 (or the cap) where ||w|| or n is 0.
Source: Huo, Gu, Huang, "Large batch optimization for deep learning using new complete layer-wise
adaptive rate scaling" (2021), Algorithm 1; the cap of 0.1 and the scale on the momentum buffer are
those of its authors' code. There the norms come from separate small batches, at a cost of one
gradient each: here that is norms="batches"; norms="workers" takes those that
:class:`~largebatch.Workers` has anyway, and is a variant of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ..curvature.passes import evaluated
from .base import still
from .bucket import Bucket
from .checks import Check, count, nonnegative, one_of, positive, positive_or_none
from .engine import Form, ScaledMomentum
from .heard import Heard
from .radius import root_mean_square

__all__ = ["CLARS"]


class CLARS(ScaledMomentum):
    """Momentum, scaled layer by layer to a share of the weights over the workers' gradient norms.

    Made for :class:`~largebatch.Workers`, which tells it of each worker's gradient before clipping
    and without the loss scale; with norms="batches" it works in any loop that calls
    :meth:`refresh`, every so many steps.

    Args:
        params: parameters, named parameters or groups of them.
        lr: global learning rate eta; a number or a tensor.
        momentum: beta, in [0, 1).
        weight_decay: lambda, in the update alone.
        trust_coefficient: tau.
        eps: added to the denominator.
        cap: s is never more; None for no bound.
        norms: "workers" for the gradients of the step's workers, "batches" for those that
            :meth:`refresh` computed last.
        batches: how many separate small batches :meth:`refresh` divides its batch into.
        exclude: "1d" leaves parameters of at most one dimension out of the scaling and of weight
            decay; None scales and decays all; "all", for a group: never scaled.
        form: "buffer" (the authors' code), "gradient" or "velocity".
        maximize: ascend instead.
        foreach: None and True update all tensors of a dtype at once, False one at a time.
        fused: None uses torch's fused kernel where it can (on a CPU), True demands a CPU, False
            never uses it.
        state_dtype: precision of the momentum; None for each parameter's own.

    Raises:
        ValueError: an option has a value it cannot have.
        TypeError: on a step with a sparse gradient.
        RuntimeError: on a step before any norm was heard.

    Example:
        >>> import largebatch as lb
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = CLARS(model.parameters(), lr=1.0)
        >>> workers = lb.Workers(model, optimizer, count=4)
        >>> x, y = torch.randn(32, 4), torch.randn(32, 2)
        >>> _ = workers.backward(lambda x, y: (model(x) - y).square().mean(), x, y)
        >>> optimizer.step()
    """

    layerwise = True
    checks: ClassVar[Mapping[str, Check]] = {
        **ScaledMomentum.checks,
        "trust_coefficient": positive,
        "eps": nonnegative,
        "cap": positive_or_none,
        "norms": one_of("workers", "batches"),
        "batches": count,
        "exclude": one_of("1d", "all", None),
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        trust_coefficient: float = 0.001,
        eps: float = 0.0,
        cap: float | None = 0.1,
        norms: Literal["workers", "batches"] = "workers",
        batches: int = 8,
        exclude: Literal["1d", "all"] | None = "1d",
        form: Form = "buffer",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        state_dtype: torch.dtype | None = None,
    ) -> None:
        """Take the parameters; the options are described with the class."""
        options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "form": form}
        ratio = {"trust_coefficient": trust_coefficient, "eps": eps, "cap": cap}
        source = {"norms": norms, "batches": batches, "exclude": exclude}
        how = {"maximize": maximize, "foreach": foreach, "fused": fused, "state_dtype": state_dtype}
        self._heard = Heard()
        super().__init__(params, {**options, **ratio, **source, **how})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over `state`; a copy has heard nothing yet."""
        super().__setstate__(state)
        self._heard = Heard()

    def saw(
        self,
        worker: int,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        *,
        factor: float | Tensor,
        weight: float | Tensor,
    ) -> None:
        """A worker's gradient, or a piece of it; see :class:`~largebatch.contracts.Listener`."""
        self._heard.saw(worker, parameters, gradients, factor=factor, weight=weight)

    def pooled(self) -> Sequence[Tensor]:
        """Sums of norms and of weights; see :class:`~largebatch.contracts.Pooled`."""
        return self._heard.pooled(self._owners())

    def combined(self, gradients: Sequence[Tensor | None], *, factor: float | Tensor) -> None:
        """All workers of the step were seen: their mean norms are what the next step uses."""
        self._keep("workers", self._heard.means())

    def forget(self) -> None:
        """What was seen since the last step does not count."""
        self._heard = Heard()

    @property
    def refreshes(self) -> bool:
        """Whether any group needs :meth:`refresh`."""
        return any(group["norms"] == "batches" for group in self.param_groups)

    def refresh(
        self,
        fn: Callable[..., Tensor],
        *batch: Any,
        process_group: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        """Take the norms of separate small batches' gradients at the present weights.

        Costs one gradient of `batches` small batches, as much as the batch's own; the global random
        state stays as it is.

        Args:
            fn: called as ``fn(*piece)`` for each small batch; returns its mean loss.
            batch: tensors with the example in dimension 0, of equal length.
            process_group: processes that have replicas of the weights and a batch each; their
                norms are averaged.

        Raises:
            RuntimeError: no group has norms="batches".
            TypeError: something in the batch is no tensor.
            ValueError: the batch has fewer examples than there are small batches.
        """
        heard = Heard()
        owners = self._owners()
        asked = [g["batches"] for g in self.param_groups if g["norms"] == "batches"]
        if not asked:
            raise RuntimeError(
                "CLARS hears norms from Workers as it is set: make it with norms='batches', or do "
                "not call refresh"
            )
        for index, piece in enumerate(_pieces(batch, max(asked))):
            with evaluated(partial(fn, *piece), owners) as loss:
                gradients = torch.autograd.grad(loss, owners, allow_unused=True)
            heard.saw(index, owners, gradients, factor=1.0, weight=1.0)
        if process_group is not None:
            for sums in heard.pooled(owners):
                torch.distributed.all_reduce(sums, group=process_group)
        self._keep("batches", heard.means())

    def _owners(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    def _keep(self, source: str, means: Sequence[tuple[Tensor, Tensor]]) -> None:
        groups = {id(p): g for g in self.param_groups for p in g["params"]}
        for parameter, mean in means:
            if id(parameter) in groups and groups[id(parameter)]["norms"] == source:
                self.state[parameter]["gradient_norm"] = mean

    def scales(self, buckets: Sequence[Bucket]) -> Sequence[Tensor]:
        """Return the ratio of each parameter."""
        return [self._ratios(bucket) for bucket in buckets]

    def _ratios(self, bucket: Bucket) -> Tensor:
        """The scale of each parameter of the bucket, in one vector."""
        group, weights = bucket.group, bucket.norms("parameters")
        heard = torch.stack([self._norm_of(owner, group) for owner in bucket.owners])
        heard = heard.to(weights.device, weights.dtype)
        ratios = root_mean_square(weights, heard, group["trust_coefficient"], eps=group["eps"])
        return ratios if group["cap"] is None else ratios.clamp(max=group["cap"])

    def _norm_of(self, owner: Tensor, group: dict[str, Any]) -> Tensor:
        # Workers' norms serve one step: without new ones the next would go by stale ones.
        known = self.state.get(owner, {})
        take = known.pop if group["norms"] == "workers" else known.get
        norm: Tensor | None = take("gradient_norm", None)
        if norm is None and not still(group):
            raise RuntimeError(_UNHEARD[group["norms"]])
        return torch.zeros((), device=owner.device) if norm is None else norm


_UNHEARD = {
    "workers": "CLARS has heard no worker's gradient of a parameter that has one: make "
    "Workers(model, optimizer, ...) with it and use their backward() or next() and combine(), or "
    "choose norms='batches' and call refresh()",
    "batches": "CLARS with norms='batches' needs the norms of separate small batches before it "
    "steps: call optimizer.refresh(fn, *batch), or workers.refresh, now and every so many steps",
}


def _pieces(batch: tuple[Any, ...], count: int) -> Iterator[tuple[Tensor, ...]]:
    for each in batch:
        if not isinstance(each, Tensor):
            raise TypeError(f"refresh() needs tensors to share out, got {type(each).__name__}")
    if any(len(each) < count for each in batch):
        sizes = [len(each) for each in batch]
        raise ValueError(f"batches={count} small batches cannot be made of {sizes} examples")
    return zip(*(each.tensor_split(count) for each in batch), strict=True)
