r"""LARS: layer-wise adaptive rate scaling, in its form of 2017.

    s = tau * ||w|| / (||g|| + lambda*||w|| + eps)
    u <- beta*u + eta*s*(g + lambda*w)      w <- w - u              form "velocity"
    u <- beta*u + s*(g + lambda*w)          w <- w - eta*u          form "gradient"
    u <- beta*u + g + lambda*w              w <- w - eta*s*u        form "buffer"

w: the weights of one layer, here one parameter; g: its combined gradient; ||.||: Euclidean norm;
s: one number a parameter; tau: trust coefficient; lambda: weight decay; eta: the global learning
rate, so that a layer moves by at most eta*tau of its own norm before momentum. s = 1 where ||w||
or ||g|| is 0: a weight that starts at zero would otherwise never move.
Source: You, Gitman, Ginsburg, "Large batch training of convolutional networks" (2017), Algorithm
1; as GNC runs it (Haruki et al. 2019, App. A.5), with tau = 0.001. Neither has eps, 0 by default.
The third form, with cap=50 and clamp=10, is that of the code which SNGM's comparison links
(Zhao et al. 2024, Table 2). The LARS of LAMB's paper (2020), which divides momentum by its own
norm, is :class:`LARS2020`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .bucket import Bucket
from .checks import Check, nonnegative, one_of, positive, positive_or_none
from .engine import Form, ScaledMomentum
from .radius import root_mean_square

__all__ = ["LARS"]


class LARS(ScaledMomentum):
    """Momentum on gradients scaled, layer by layer, to a share of the layer's weights.

    Args:
        params: parameters, named parameters or groups of them.
        lr: global learning rate eta; a number or a tensor.
        momentum: beta, in [0, 1).
        weight_decay: lambda, in the denominator and in the update.
        trust_coefficient: tau.
        eps: added to the denominator; 0 is the document's.
        exclude: "1d" leaves parameters of at most one dimension (biases, normalization) out of
            the scaling and of weight decay, as most public ResNet-50 results do; None scales all
            and decays all, as the documents have it: for reproductions. "all", for a group: never
            scaled; its `weight_decay` stays what the group says.
        cap: s is never more; None, the document's, for no bound.
        clamp: elements of g are first bounded to [-clamp, clamp]; None, the document's, does not.
        nesterov: step by what momentum will have become; see
            :class:`~largebatch.optim.ScaledMomentum`.
        form: "velocity" (the document's), "gradient" or "buffer"; they differ when eta or s
            changes.
        maximize: ascend instead.
        foreach: None and True update all tensors of a dtype at once, False one at a time.
        fused: None uses torch's fused kernel where it can (on a CPU), True demands a CPU, False
            never uses it.
        state_dtype: precision of the momentum; None for each parameter's own.

    Raises:
        ValueError: an option has a value it cannot have.
        TypeError: on a step with a sparse gradient.

    Example:
        >>> weights = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
        >>> optimizer = LARS([weights], lr=100.0, momentum=0.9)
        >>> weights.sum().backward()
        >>> optimizer.step()
        >>> optimizer.state[weights]["scale"]  # 0.001 * 5 / sqrt(2)
        tensor(0.0035)
        >>> weights.data
        tensor([[2.6464, 3.6464]])
    """

    layerwise = True
    checks: ClassVar[Mapping[str, Check]] = {
        **ScaledMomentum.checks,
        "trust_coefficient": positive,
        "eps": nonnegative,
        "cap": positive_or_none,
        "clamp": positive_or_none,
        "nesterov": one_of(True, False),
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
        exclude: Literal["1d", "all"] | None = "1d",
        cap: float | None = None,
        clamp: float | None = None,
        nesterov: bool = False,
        form: Form = "velocity",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        state_dtype: torch.dtype | None = None,
    ) -> None:
        """Take the parameters; the options are described with the class."""
        options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "form": form}
        ratio = {"trust_coefficient": trust_coefficient, "eps": eps, "exclude": exclude}
        bounds = {"cap": cap, "clamp": clamp, "nesterov": nesterov}
        how = {"maximize": maximize, "foreach": foreach, "fused": fused, "state_dtype": state_dtype}
        super().__init__(params, {**options, **ratio, **bounds, **how})

    def scales(self, buckets: Sequence[Bucket]) -> Sequence[Tensor]:
        """Return the ratio of each parameter."""
        return [_ratios(bucket) for bucket in buckets]


def _ratios(bucket: Bucket) -> Tensor:
    """The scale of each parameter of the bucket, in one vector."""
    group, tau = bucket.group, bucket.group["trust_coefficient"]
    norms = bucket.norms("parameters"), bucket.norms("gradients")
    ratios = root_mean_square(*norms, tau, decay=bucket.weight_decay, eps=group["eps"])
    return ratios if group["cap"] is None else ratios.clamp(max=group["cap"])
