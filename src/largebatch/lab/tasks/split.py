"""Which examples a run trains on and which it is scored on.

Two views of one data set, and no third:

    "validation"   train on the training examples without the validation share, score on that share
    "test"         train on all training examples, score on the test examples

Tuning sees the first only, so the test examples choose nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from largebatch.lab.tasks.base import Data, Examples, TaskError
from largebatch.seeding import generator

__all__ = ["Split", "split"]

_VALIDATION = 0x5A11D  # names the draw that chooses the validation examples; any constant would do


@dataclass(frozen=True)
class Split:
    """Examples to train on, and others to score on.

    Attributes:
        train: inputs and targets the run learns from.
        held_out: inputs and targets it is scored on.

    Example:
        >>> pair = torch.zeros(4, 2), torch.zeros(4)
        >>> Split(train=pair, held_out=pair).train[0].shape
        torch.Size([4, 2])
    """

    train: Examples
    held_out: Examples


def split(data: Data, on: str, *, validation: float, train_size: int | None = None) -> Split:
    """The view of ``data`` for a run that is scored ``on`` "validation" or "test" examples.

    The validation examples are drawn without replacement and depend on the numbers of examples
    alone: the same for every method, seed and machine. Both parts keep the data's order.

    Args:
        data: all examples.
        on: "validation" or "test".
        validation: share of the training examples that tuning sets aside, to the nearest example.
        train_size: use the first so many training examples only, in both views; None: all.

    Raises:
        TaskError: where there are fewer training examples than asked for, or where the validation
            share leaves nothing to train on or nothing to score on.

    Example:
        >>> data = Data((torch.arange(10), torch.zeros(10)), (torch.arange(3), torch.zeros(3)))
        >>> for on in ("validation", "test"):
        ...     view = split(data, on, validation=0.2)
        ...     print(len(view.train[0]), len(view.held_out[0]))
        8 2
        10 3
    """
    if on not in ("validation", "test"):
        raise TaskError(f"on={on!r}: must be 'validation' or 'test'")
    train = _first(data.train, train_size)
    if on == "test":
        return Split(train=train, held_out=data.test)
    chosen = _chosen(len(train[0]), validation)
    return Split(train=_where(train, ~chosen), held_out=_where(train, chosen))


def _first(train: Examples, size: int | None) -> Examples:
    available = len(train[0])
    if size is None:
        return train
    if not 1 <= size <= available:
        raise TaskError(
            f"train_size={size}, but there are {available} training examples: "
            f"choose 1 to {available}, or leave it out for all"
        )
    return train[0][:size], train[1][:size]


def _chosen(examples: int, validation: float) -> torch.Tensor:
    count = round(examples * validation)
    if not 0 < count < examples:
        raise TaskError(
            f"a validation share of {validation:.4g} of {examples} training examples sets {count} "
            "aside: must leave at least one to train on and one to score on"
        )
    order = torch.randperm(examples, generator=generator("cpu", _VALIDATION, examples))
    return torch.zeros(examples, dtype=torch.bool).index_fill_(0, order[:count], True)


def _where(examples: Examples, mask: torch.Tensor) -> Examples:
    inputs, targets = examples
    return inputs[mask.to(inputs.device)], targets[mask.to(targets.device)]
