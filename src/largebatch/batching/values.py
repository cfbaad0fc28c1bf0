"""A schedule's two sets of values: those chosen for the base batch, and those in the groups.

The base values are kept and never divided back out, so that ten thousand changes of the batch leave
no rounding in them. Tensors are filled in place: a compiled step reads the same tensor anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor
from torch.optim import Optimizer

from .kinds import Rule, is_decoupled, moved, rate_factor

__all__ = ["Values"]

# Whose groups are taken. Kept beside the optimizers, whose copies and pickles know nothing of it.
_TAKEN: WeakKeyDictionary[Optimizer, ref[Values]] = WeakKeyDictionary()


class Values:
    """The options of an optimizer's groups that move with the batch."""

    def __init__(
        self, optimizer: Optimizer, moves: tuple[str, ...], rule: Rule, base_batch: int, batch: int
    ) -> None:
        """Take what is in the groups for the base values, and write those of `batch`.

        Raises:
            ValueError: the groups hold another's moved values.
        """
        first = _TAKEN.get(optimizer)
        if first is not None and first() is not None:
            raise ValueError(
                f"this {type(optimizer).__name__} has a BatchSizeSchedule already, got a second, "
                "which would scale its values again: go on with the first, or make the optimizer "
                "anew"
            )
        self.optimizer, self.moves, self.rule = optimizer, moves, rule
        self.base_batch, self.batch = base_batch, batch
        self._left: list[dict[str, Any]] = []
        self._open = False
        self._take()
        self.write()
        _TAKEN[optimizer] = ref(self)

    @contextmanager
    def at_base(self) -> Iterator[None]:
        """Inside, the groups hold the base values; what is left there is the new base."""
        self._restore()
        self._open = True
        try:
            yield
        finally:
            self._open = False
            self._take()
            self.write()

    def check_closed(self, what: str) -> None:
        """Raise RuntimeError inside :meth:`at_base`."""
        if self._open:
            raise RuntimeError(f"{what} inside `with schedule.unscaled():`: leave the block first")

    def _take(self) -> None:
        self.base = [
            {option: _copy(group[option]) for option in self.moves if option in group}
            for group in self.optimizer.param_groups
        ]

    def _restore(self) -> None:
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            for option, value in base.items():
                group[option] = _put(group[option], value)

    def write(self) -> None:
        """Write the base values, moved to the batch, into the groups."""
        kappa = self.batch / self.base_batch
        factor = rate_factor(self.rule, kappa)
        self._left = []
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            decoupled = is_decoupled(self.optimizer, group)
            for option, value in base.items():
                new = moved(option, value, kappa, factor, decoupled=decoupled)
                group[option] = _put(group[option], new)
            self._left.append({option: _mark(group[option]) for option in base})

    def rates(self) -> list[float | Tensor]:
        """Copies of the groups' rates."""
        return [_copy(group["lr"]) for group in self.optimizer.param_groups]

    def check(self) -> None:
        """Raise RuntimeError where something else has written into the groups since."""
        self._check_groups()
        for i, (group, left) in enumerate(
            zip(self.optimizer.param_groups, self._left, strict=True)
        ):
            for option, mark in left.items():
                if not _unchanged(mark, group[option]):
                    raise RuntimeError(
                        f"param_groups[{i}][{option!r}] is {group[option]!r}, but the batch-size "
                        f"schedule left {_shown(mark)!r} there: something else writes it. Give "
                        "another scheduler as scheduler= in place of stepping it, and make other "
                        "changes inside `with schedule.unscaled():`"
                    )

    def _check_groups(self) -> None:
        known, here = len(self.base), len(self.optimizer.param_groups)
        if known != here:
            raise RuntimeError(
                f"the batch-size schedule knows {known} parameter groups, but the optimizer has "
                f"{here} now: call add_param_group inside `with schedule.unscaled():`, where a "
                "group joins with its base values"
            )

    def state(self) -> list[dict[str, Any]]:
        """The base values as plain numbers and lists.

        Raises:
            RuntimeError: a group has come or gone.
        """
        self._check_groups()
        return [{option: _plain(value) for option, value in base.items()} for base in self.base]

    def read(self, state: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The base values of :meth:`state`, of the groups' types.

        Raises:
            ValueError: the groups or their options are others.
        """
        groups = self.optimizer.param_groups
        found = [sorted(base) for base in state]
        here = [sorted(option for option in self.moves if option in group) for group in groups]
        if found != here:
            raise ValueError(
                f"the state moves {found}, one list a parameter group, got {here}: make optimizer "
                "and schedule as they were"
            )
        return [
            {option: _like(group[option], value) for option, value in base.items()}
            for group, base in zip(groups, state, strict=True)
        ]


def _copy(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(map(_copy, value))
    return value.detach().clone() if isinstance(value, Tensor) else value


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return list(map(_plain, value))
    return value.item() if isinstance(value, Tensor) else value


def _like(present: Any, value: Any) -> Any:
    if isinstance(present, tuple | list):
        return type(present)(map(_like, present, value))
    return torch.full_like(present, value) if isinstance(present, Tensor) else value


def _put(present: Any, value: Any) -> Any:
    """What belongs in the group: `present` itself with a new value where it is a tensor."""
    if isinstance(present, tuple | list):
        return type(present)(map(_put, present, value))
    if isinstance(present, Tensor):
        return present.copy_(value) if isinstance(value, Tensor) else present.fill_(value)
    return value.item() if isinstance(value, Tensor) else value


def _mark(value: Any) -> Any:
    """What tells later whether a value was written; of a tensor its version, read without sync."""
    if isinstance(value, tuple | list):
        return tuple(map(_mark, value))
    return _Tensor(value) if isinstance(value, Tensor) else value


class _Tensor:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.version = tensor, tensor._version
        self.value = tensor.detach().clone()

    def holds(self, value: Any) -> bool:
        if value is self.tensor and value._version == self.version:
            return True
        # Another object of the same value: the optimizer's state was loaded.
        return bool(torch.as_tensor(value).to(self.value) == self.value)


def _unchanged(mark: Any, value: Any) -> bool:
    if isinstance(mark, tuple):
        return len(mark) == len(value) and all(map(_unchanged, mark, value))
    return mark.holds(value) if isinstance(mark, _Tensor) else bool(mark == value)


def _shown(mark: Any) -> Any:
    if isinstance(mark, tuple):
        return tuple(map(_shown, mark))
    return mark.value if isinstance(mark, _Tensor) else mark
