r"""SNGM: stochastic normalized gradient descent with momentum.

    s = 1 / ||g + lambda*w||        u <- beta*u + s*(g + lambda*w)        w <- w - eta*u

w: all weights of all groups as one vector, or with `blockwise` those of one parameter; g: the
combined gradient; ||.||: Euclidean norm over all of it; u: momentum, zero at first, never longer
than 1/(1 - beta); s: one number, or one a parameter. eta: learning rate, which here is a length:
without momentum a step has exactly length eta, or blockwise that of each parameter has. Where the
norm or ||g|| is 0, s is 0: there is no direction (weight decay alone is none) and momentum goes
on.
Source: Zhao et al., "Stochastic normalized gradient descent with momentum for large-batch
training" (2024), Eq. 7-8, Algorithm 1; blockwise Eq. 13-14, of which Section 6 shows that its
bound is worse. beta = 0 gives SNGD. The document's equation has no weight decay and its runs have
0.0001: here it is inside the norm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .bucket import Bucket
from .checks import Check, one_of
from .engine import Form, ScaledMomentum

__all__ = ["SNGM"]


class SNGM(ScaledMomentum):
    """Momentum on the gradient divided by its norm over all parameters of all groups.

    Groups may differ in every option; their decayed gradients still share one norm.

    Args:
        params: parameters, named parameters or groups of them.
        lr: learning rate eta, the length of a step without momentum; a number or a tensor.
        momentum: beta, in [0, 1).
        weight_decay: lambda, added inside the norm.
        blockwise: a norm for each parameter instead of one for all; groups without it share one.
        form: "gradient" (the document's), "velocity" or "buffer"; see
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

    Example:
        >>> weights = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> optimizer = SNGM([weights], lr=1.0, momentum=0.9)
        >>> (0.5 * weights.square().sum()).backward()
        >>> optimizer.step()
        >>> weights.data  # moved by 1 towards the origin
        tensor([2.4000, 3.2000])
        >>> optimizer.state[weights]["scale"]
        tensor(0.2000)
    """

    directionless: ClassVar[bool] = True
    checks: ClassVar[Mapping[str, Check]] = {
        **ScaledMomentum.checks,
        "blockwise": one_of(True, False),
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        blockwise: bool = False,
        form: Form = "gradient",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        state_dtype: torch.dtype | None = None,
    ) -> None:
        """Take the parameters; the options are described with the class."""
        options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "form": form}
        how = {"maximize": maximize, "foreach": foreach, "fused": fused, "state_dtype": state_dtype}
        super().__init__(params, {**options, "blockwise": blockwise, **how})

    @property
    def layerwise(self) -> bool:
        """Whether any group is blockwise."""
        return any(group["blockwise"] for group in self.param_groups)

    def scales(self, buckets: Sequence[Bucket]) -> Sequence[Tensor]:
        """Return the inverse of the norm over everything, or of each parameter's."""
        shared = [bucket for bucket in buckets if not bucket.group["blockwise"]]
        whole = iter(_whole(shared) if shared else [])
        return [_by_block(b) if b.group["blockwise"] else next(whole) for b in buckets]


def _by_block(bucket: Bucket) -> Tensor:
    norms = bucket.norms("decayed")
    return _inverse(norms, bucket.moved(each=True) if bucket.weight_decay else norms != 0)


def _whole(buckets: Sequence[Bucket]) -> list[Tensor]:
    """The one scale, for each bucket on its device and in its precision."""
    norms = [bucket.norms("decayed") for bucket in buckets]
    wide = torch.float64 if any(n.dtype == torch.float64 for n in norms) else torch.float32
    device = norms[0].device
    norm = torch.linalg.vector_norm(torch.cat([n.to(device, wide) for n in norms]))
    scale = _inverse(norm, _moved(buckets, device))
    return [scale.to(each.device, each.dtype) for each in norms]


def _moved(buckets: Sequence[Bucket], device: torch.device) -> Tensor:
    """Whether there is a gradient at all: where nothing decays, ||h|| says so itself."""
    if not any(bucket.weight_decay for bucket in buckets):
        return torch.ones((), dtype=torch.bool, device=device)
    return torch.stack([bucket.moved(each=False).to(device) for bucket in buckets]).any()


def _inverse(norms: Tensor, moved: Tensor) -> Tensor:
    """1/||h||, but 0 where there is no direction."""
    # Below the smallest normal number of float32 the inverse may be infinite there.
    vanishes = (norms < torch.finfo(torch.float32).tiny) | ~moved
    # An infinite norm would give 0, which hides the broken gradient: NaN shows it.
    return norms.reciprocal().masked_fill(norms.isinf(), torch.nan).masked_fill(vanishes, 0.0)
