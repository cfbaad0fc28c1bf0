"""What happens before and after an optimizer's steps, for probes that must see weights of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

__all__ = ["Attached", "attached"]


class Attached:
    """Hooks of several optimizers, taken away together.

    Example:
        >>> Attached([]).remove()
    """

    def __init__(self, handles: Sequence[RemovableHandle]) -> None:
        """Hold the hooks' own handles."""
        self._handles = list(handles)

    def remove(self) -> None:
        """Take the hooks away; nothing where they are gone."""
        for handle in self._handles:
            handle.remove()


def attached(
    optimizers: Sequence[Optimizer],
    before: Callable[[Optimizer], None],
    after: Callable[[Optimizer], None],
) -> Attached:
    """Have each optimizer call these around its steps.

    Raises:
        TypeError: something that is no optimizer, or none at all.
    """

    def ahead(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        before(optimizer)

    def behind(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        after(optimizer)

    wrong = [each for each in optimizers if not isinstance(each, Optimizer)]
    if wrong or not optimizers:
        given = repr(wrong[0]) if wrong else "none"
        raise TypeError(f"attach() takes the optimizers that step the model, got {given}")
    handles = [each.register_step_pre_hook(ahead) for each in optimizers]
    return Attached([*handles, *(each.register_step_post_hook(behind) for each in optimizers)])
