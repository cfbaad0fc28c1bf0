r"""CBLR: a rate for each weight, from the radius of curvature of the loss along it.

    R = (1 + g^2)^(3/2) / (|h| + delta)         diagonal="hessian": h = d^2 L / dw^2
    R = |w| / (|g| + delta)                     diagonal="ratio", the cheap form
    s = R, clipped to `bounds`, element by element
    u <- beta*u + s*(g + lambda*w)      w <- w - eta*u

w: weights; g: the combined gradient; h: the diagonal of the loss's Hessian; all of the parameter's
shape. delta: `damping`; eta: learning rate, the document's gamma; lambda: weight decay, which does
not enter R (a property of the loss's curve) but is scaled by it. The cheap form is that of a
parabola with its minimum at w = 0, where h = g/w, and with g^2 much less than 1.
Source: CURV (Gao and Zhong 2020), Eq. 9-11 and 17, without delta and bounds.

h is estimated by :meth:`CBLR.refresh` every so many steps; h <- h + (new - h)*(1 - a)/(1 - a^k) at
the k-th, with a = `average`. Where a new value is not finite the old one stays, 0 at first.

Known failures: R has no sign, so that steps descend along negative curvature as along positive;
it is infinite for h = 0 and grows as g^3 (damping and bounds are against it). In the cheap form a
step is a share of the weight: without a lower bound, zero weights never move and none changes sign.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ..curvature import Method, hutchinson_diagonal
from ..curvature.products import mean_over
from ..measure import HALVES, Tensors
from ..mesh import local
from .base import still
from .bucket import Bucket
from .checks import Check, bounds, fraction, nonnegative, one_of
from .engine import Form, ScaledMomentum

__all__ = ["CBLR"]


class CBLR(ScaledMomentum):
    """Momentum on gradients multiplied, weight by weight, by a radius of curvature.

    With diagonal="hessian" the state holds the diagonal, one more copy of the parameters. Before
    `torch.distributed.checkpoint.state_dict` loads it into a new optimizer, refresh and step that
    once: else torch steps it itself, without a diagonal.

    Args:
        params: parameters, named parameters or groups of them.
        lr: learning rate eta; a number or a tensor.
        momentum: beta, in [0, 1).
        weight_decay: lambda, multiplied by R as the gradient is.
        diagonal: "ratio" for abs(w/g); "hessian" for Eq. 9, which needs :meth:`refresh`.
        damping: delta, added to the denominator; 0 is the document's.
        bounds: the least s, without which zero weights never move in the cheap form, and the
            largest; the document has none.
        average: a, the share of the old diagonal in the mean over refreshes, in [0, 1).
        exclude: None scales and decays all parameters, as the document does; "1d" leaves those of
            at most one dimension out of both; "all", for a group: never scaled.
        form: "gradient", "velocity" or "buffer"; see
            :class:`~largebatch.optim.ScaledMomentum`.
        maximize: ascend instead.
        foreach: None and True update all tensors of a dtype at once, False one at a time.
        fused: None uses torch's fused kernel where it can (on a CPU), True demands a CPU, False
            never uses it.
        state_dtype: precision of the momentum, such as torch.float32 for bfloat16 parameters;
            None for each parameter's own.

    Raises:
        ValueError: an option has a value it cannot have.
        TypeError: on a step with a sparse gradient.
        RuntimeError: on a step with diagonal="hessian" before any refresh.

    Example:
        >>> weights = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> curve = lambda: (torch.tensor([2.0, 8.0]) * weights.square()).sum() / 2
        >>> optimizer = CBLR([weights], lr=0.1, diagonal="hessian")
        >>> optimizer.refresh(curve)
        >>> optimizer.state[weights]["hessian_diagonal"]
        tensor([2., 8.])
        >>> curve().backward()
        >>> optimizer.step()
    """

    # Its scales are of the parameters' shapes: there is no one rate of a layer to publish.
    layerwise = None
    checks: ClassVar[Mapping[str, Check]] = {
        **ScaledMomentum.checks,
        "diagonal": one_of("ratio", "hessian"),
        "damping": nonnegative,
        "bounds": bounds,
        "average": fraction,
        "exclude": one_of("1d", "all", None),
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.003,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        diagonal: Literal["ratio", "hessian"] = "ratio",
        damping: float = 0.0,
        bounds: tuple[float, float] = (1e-3, 100.0),
        average: float = 0.9,
        exclude: Literal["1d", "all"] | None = None,
        form: Form = "gradient",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        state_dtype: torch.dtype | None = None,
    ) -> None:
        """Take the parameters; the options are described with the class."""
        options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "form": form}
        radius = {"diagonal": diagonal, "damping": damping, "bounds": bounds, "average": average}
        how = {"foreach": foreach, "fused": fused, "state_dtype": state_dtype}
        which = {"exclude": exclude, "maximize": maximize}
        super().__init__(params, {**options, **radius, **which, **how})

    @property
    def refreshes(self) -> bool:
        """Whether any group needs :meth:`refresh`."""
        return any(group["diagonal"] == "hessian" for group in self.param_groups)

    def refresh(
        self,
        fn: Callable[..., Tensor],
        *batch: Any,
        samples: int = 1,
        seed: int = 0,
        method: Method = "exact",
        process_group: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        """Estimate the Hessian's diagonal anew, and average it with the former ones.

        An exact refresh takes about as long as 5 gradients, one by differences 2 for each sample.

        Call it between steps, before the forward pass of the next. Weights, gradients and the
        global random state stay as they are; what the model changes in its own forward pass, as
        running statistics, is changed here too.

        Args:
            fn: called as ``fn(*batch)``, evaluates the model and returns the loss.
            batch: what fn is called with; larger batches make for less noise.
            samples: Hutchinson samples, a Hessian-vector product each.
            seed: with the number of refreshes so far and the sample it names the random numbers.
            method: "exact" or "differences": see :func:`largebatch.curvature.hessian_products`.
            process_group: processes whose diagonals are averaged. Needed where each has its own
                batch and a replica of the weights, unless method="differences" runs through DDP or
                FSDP2, which average the gradients: else the replicas would drift apart.

        Raises:
            RuntimeError: no group has diagonal="hessian", or the model has no second backward.
            ValueError: an argument has a value it cannot have, or the loss reaches no parameter.
        """
        pairs = [
            (parameter, group)
            for group in self.param_groups
            if group["diagonal"] == "hessian"
            for parameter in group["params"]
            if parameter.requires_grad
        ]
        if not pairs:
            raise RuntimeError(
                "CBLR has no Hessian diagonal to refresh: make it with diagonal='hessian', or do "
                "not call refresh"
            )
        owners = [parameter for parameter, _ in pairs]
        counts = [int(self.state[p].get("refreshes", 0)) if p in self.state else 0 for p in owners]
        found = hutchinson_diagonal(
            lambda: fn(*batch), owners, samples=samples, seed=seed, step=max(counts), method=method
        )
        if process_group is not None:
            mean_over(process_group, [local(new) for new in found])
        for (owner, group), new, count in zip(pairs, found, counts, strict=True):
            _remember(self.state[owner], new, count + 1, group["average"])

    def scales(self, buckets: Sequence[Bucket]) -> Sequence[Tensors]:
        """Return the radius of each element, clipped."""
        return [self._radii(bucket) for bucket in buckets]

    def _radii(self, bucket: Bucket) -> Tensors:
        group, gradients = bucket.group, _wide(bucket.gradients)
        if group["diagonal"] == "ratio":
            radii = torch._foreach_abs(_wide(bucket.parameters))
            curvatures = torch._foreach_abs(gradients)
        else:
            radii = torch._foreach_mul(gradients, gradients)
            torch._foreach_add_(radii, 1.0)
            torch._foreach_pow_(radii, 1.5)
            curvatures = torch._foreach_abs(self._diagonals(bucket))
        if group["damping"]:
            torch._foreach_add_(curvatures, group["damping"])
        # Not 0, so that 0/0 is 0; an infinite radius is clipped like any other.
        torch._foreach_clamp_min_(curvatures, torch.finfo(radii[0].dtype).tiny)
        torch._foreach_div_(radii, curvatures)
        lower, higher = group["bounds"]
        torch._foreach_clamp_min_(radii, lower)
        torch._foreach_clamp_max_(radii, higher)
        return radii

    def _diagonals(self, bucket: Bucket) -> list[Tensor]:
        """The local pieces of h."""
        states = [self.state[owner] for owner in bucket.owners]
        if not all("hessian_diagonal" in state for state in states):
            if still(bucket.group):
                return [torch.zeros_like(each) for each in bucket.parameters]
            raise RuntimeError(
                "CBLR with diagonal='hessian' needs to know the diagonal of all its parameters "
                "before it steps: call optimizer.refresh(fn, *batch), now and every so many steps, "
                "or take diagonal='ratio'"
            )
        return [local(state["hessian_diagonal"]) for state in states]


def _wide(tensors: Tensors) -> Tensors:
    return [t.float() for t in tensors] if tensors[0].dtype in HALVES else tensors


@torch.no_grad()
def _remember(state: dict[str, Any], new: Tensor, count: int, average: float) -> None:
    """Take a new diagonal, the `count`-th, into the mean; where it is not finite, leave that."""
    known = state.setdefault("hessian_diagonal", torch.zeros_like(new))
    state["refreshes"] = torch.tensor(count, device=new.device)
    old, new = local(known), local(new)
    share = (1 - average) / (1 - average**count)
    old.copy_(torch.where(new.isfinite(), old + share * (new - old), old))
