"""Tasks: data with a network, a loss and a score. See :class:`Task` to write one."""

from largebatch.lab.tasks.base import Data, Examples, Task, TaskError, accuracy_percent
from largebatch.lab.tasks.resolve import names, resolve
from largebatch.lab.tasks.split import Split, split

__all__ = [
    "Data",
    "Examples",
    "Split",
    "Task",
    "TaskError",
    "accuracy_percent",
    "names",
    "resolve",
    "split",
]
