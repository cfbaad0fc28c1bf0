"""From a name on a command line to a task: one of ours, or one of the user's own.

A new task of ours is one file and one line in the table below. A task is imported when it is asked
for and not before, so that ``digits`` needs nothing of what ``cifar10`` needs.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from types import ModuleType

from largebatch.lab.errors import nearest
from largebatch.lab.tasks.base import Task, TaskError

__all__ = ["names", "resolve", "search_here"]

_TASKS = {
    "digits": "largebatch.lab.tasks.digits:digits",
    "mnist": "largebatch.lab.tasks.mnist:mnist",
    "fashion-mnist": "largebatch.lab.tasks.mnist:fashion_mnist",
    "cifar10": "largebatch.lab.tasks.cifar:cifar10",
    "cifar10-alexnet": "largebatch.lab.tasks.cifar:cifar10_alexnet",
    "cifar10-resnet32": "largebatch.lab.tasks.cifar:cifar10_resnet32",
    "cifar100": "largebatch.lab.tasks.cifar:cifar100",
    "cifar100-resnet8": "largebatch.lab.tasks.cifar:cifar100_resnet8",
}


def names() -> list[str]:
    """The names of our tasks, the quickest first.

    Example:
        >>> names()[0]
        'digits'
    """
    return list(_TASKS)


def resolve(name: str) -> Task:
    """The task of that name, or the user's task at ``package.module:attribute``.

    The attribute is a :class:`Task`, or is called without arguments and returns one. The current
    directory is searched first, as with ``python -m``, and stays on ``sys.path``: the module may
    import its neighbours later.

    Raises:
        TaskError: where there is no such task, module or attribute (the nearest names are given),
            or where the attribute is not a task. What the user's own code raises is left alone.

    Example:
        >>> resolve("digits").batch_sizes
        (1024,)
        >>> resolve("digit")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        largebatch.lab.tasks.base.TaskError: no task 'digit': did you mean 'digits'? ...
    """
    if name in _TASKS:
        return _load(_TASKS[name])
    if ":" not in name:
        raise TaskError(
            f"no task {name!r}: {nearest(name, _TASKS)} (or your own as package.module:attribute)"
        )
    search_here()
    return _load(name)


def search_here() -> None:
    """Let imports find what lies in the current directory, first, as with ``python -m``."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)


def _load(path: str) -> Task:
    module_name, _, attribute = path.partition(":")
    module = _module(path, module_name)
    found = getattr(module, attribute, None)
    if found is None:
        public = [n for n in vars(module) if not n.startswith("_")]
        raise TaskError(
            f"task {path!r}: module {module_name!r} has no {attribute!r}: "
            f"{nearest(attribute, public)} (name a Task, or a function that returns one)"
        )
    task = found if isinstance(found, Task) or not callable(found) else _call(path, found)
    if not isinstance(task, Task):
        raise TaskError(
            f"task {path!r} is a {type(task).__name__}: must be a largebatch.lab.tasks.Task, "
            "or a function without arguments that returns one"
        )
    return task


def _call(path: str, factory: Callable[..., object]) -> object:
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise TaskError(
            f"task {path!r} needs arguments ({error}): name a Task, or a function without any"
        ) from error
    return factory()


def _module(path: str, name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise TaskError(
            f"task {path!r}: {name!r} is not a module's name: write package.module:attribute"
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only the module itself, or a package it stands in: a missing import inside it is not ours.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise TaskError(
            f"task {path!r}: there is no module {error.name!r} in {os.getcwd()} or installed: "
            "write package.module:attribute, with dots and without .py"
        ) from error
