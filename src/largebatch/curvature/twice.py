"""Whether a loss's graph has a second backward pass at all.

A function of one's own whose backward is marked ``once_differentiable`` is refused by autograd only
where what comes to it from behind depends on the weights; where it does not (the last function
before a sum, say), what it returns counts as constant, and its curvature as zero.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["refuse_once_differentiable"]

# The decorator leaves the same code around whatever it is given.
_MARK = once_differentiable(lambda ctx: None).__code__


def refuse_once_differentiable(loss: Tensor) -> None:
    """Raise RuntimeError where the loss went through a function that is differentiable once."""
    seen: set[Any] = set()
    left: list[Any] = [loss.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        owner: Any = getattr(node, "_forward_cls", None)
        backward = getattr(owner, "backward", None)
        if getattr(backward, "__code__", None) is _MARK:
            raise RuntimeError(
                "an exact product needs a model that can be differentiated twice, but "
                f"{owner.__qualname__}.backward is marked once_differentiable, and its curvature "
                "would count as zero: use method='differences'"
            )
        left += [each for each, _ in node.next_functions]
