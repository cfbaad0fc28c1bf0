"""What a task is: data, a network, a loss, a score, and the sizes a comparison starts from.

A task of one's own is a :class:`Task` in a module of one's own (``examples/my_task.py`` has one);
:func:`largebatch.lab.tasks.resolve` finds it by name. Inputs may have any shape and dtype (images,
rows of a table, token numbers): only the first dimension means something here, the example.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from largebatch.lab.errors import InputError

__all__ = ["Data", "Examples", "Task", "TaskError", "accuracy_percent"]

Examples = tuple[Tensor, Tensor]
"""Inputs and targets; the first dimension of both is the example."""


class TaskError(InputError):
    """A task that cannot be used as asked: an unknown name, data missing or broken, wrong sizes.

    Example:
        >>> raise TaskError("train_size=0: must be at least 2")
        Traceback (most recent call last):
        largebatch.lab.tasks.base.TaskError: train_size=0: must be at least 2
    """


@dataclass(frozen=True)
class Data:
    """Training and test examples, in memory and ready for the network (already normalised).

    Attributes:
        train: inputs (n, ...) and targets (n, ...).
        test: the same for the test examples, never looked at while tuning.

    Raises:
        TaskError: where a pair differs in its number of examples, or has none.

    Example:
        >>> rows, classes = torch.zeros(6, 2), torch.zeros(6).long()
        >>> len(Data(train=(rows, classes), test=(rows[:1], classes[:1])).train[0])
        6
    """

    train: Examples
    test: Examples

    def __post_init__(self) -> None:
        """Check that every input has its target."""
        for part, (inputs, targets) in (("train", self.train), ("test", self.test)):
            if len(inputs) != len(targets) or len(inputs) == 0:
                raise TaskError(
                    f"{part} data has {len(inputs)} inputs and {len(targets)} targets: must be as "
                    "many targets as inputs, at least one, along the first dimension"
                )


def accuracy_percent(outputs: Tensor, targets: Tensor) -> Tensor:
    """100 where the largest score is the target's, else 0; shape (examples,), in percent.

    Args:
        outputs: scores, (examples, classes).
        targets: class numbers, (examples,).

    Example:
        >>> accuracy_percent(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
        tensor([100.,   0.])
    """
    return 100.0 * (outputs.argmax(dim=1) == targets).float()


@dataclass(frozen=True, kw_only=True)
class Task:
    """One problem to train on, complete: everything a comparison needs but the method.

    Attributes:
        name: short, as written on a command line.
        title: one line for reports.
        load: from the folder of the data (None: the task's own choice) to :class:`Data`. Whatever
            belongs to every use of an input, such as scaling, is done here, once.
        model: a freshly initialised network; weights come from torch's global generator, which
            the caller has seeded.
        loss: (outputs, targets) to the mean over the examples, a scalar.
        losses: (outputs, targets) to one loss for each example, shape (examples,), whose mean is
            ``loss``: for methods that look at single losses. Cross entropy need not say it.
        score: (outputs, targets) to one number per example, shape (examples,): their mean over all
            examples is the metric, so that chunks of any size can be added up.
        metric: the metric's name with its unit.
        higher_is_better: whether a larger metric is the better one.
        augment: None, or a random change of a whole batch of training inputs on its own device,
            different for every example, drawn from the generator given (on that device) alone.
        validation: share of the training examples set aside while tuning, in (0, 1).
        epochs: how long a comparison trains unless told.
        small_batch: batch size of a comparison's reference.
        batch_sizes: large batch sizes of a comparison.

    Raises:
        TaskError: where a default is out of its range.

    Example:
        >>> def load(data_dir: Path | None) -> Data:
        ...     x = torch.linspace(-1, 1, 12).reshape(12, 1)
        ...     y = (x[:, 0] > 0).long()
        ...     return Data(train=(x[::2], y[::2]), test=(x[1::2], y[1::2]))
        >>> task = Task(name="line", title="Which side", load=load, model=lambda: nn.Linear(1, 2))
        >>> inputs, targets = task.load(None).test
        >>> task.score(task.model()(inputs), targets).shape
        torch.Size([6])
    """

    name: str
    title: str
    load: Callable[[Path | None], Data]
    model: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy
    losses: Callable[[Tensor, Tensor], Tensor] | None = None
    score: Callable[[Tensor, Tensor], Tensor] = accuracy_percent
    metric: str = "accuracy_percent"
    higher_is_better: bool = True
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    validation: float = 0.2
    epochs: int = 40
    small_batch: int = 64
    batch_sizes: tuple[int, ...] = (1024,)

    def __post_init__(self) -> None:
        """Refuse defaults that no run could use."""
        if not 0 < self.validation < 1:
            raise TaskError(
                f"task {self.name!r}: validation={self.validation} must be a share between 0 and 1"
            )
        sizes = {"epochs": (self.epochs,), "small_batch": (self.small_batch,)}
        for field, values in (sizes | {"batch_sizes": self.batch_sizes}).items():
            if not values or min(values) < 1:
                raise TaskError(f"task {self.name!r}: {field}={values} must be at least 1")
