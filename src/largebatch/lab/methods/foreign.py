"""Any torch optimizer as an update rule, by ``package.module:Class``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim import LBFGS, Optimizer, SparseAdam

from ..errors import InputError, nearest
from ..tasks.resolve import search_here
from .kinds import Build, Rule

__all__ = ["foreign"]


def foreign(path: str) -> Rule:
    """The rule at a path; its grid is wide and lies around its own default rate.

    Raises:
        InputError: no such module or class, or one that cannot work with workers.

    Example:
        >>> foreign("torch.optim:NAdam").lr
        0.002
    """
    module, cls = _find(path)
    parameters = inspect.signature(cls).parameters
    if "lr" not in parameters:
        raise InputError(f"{cls.__name__} has no argument lr: wrap it in a class that has one")
    default = parameters["lr"].default
    lr = float(default) if isinstance(default, int | float) else 0.01
    summary = f"{cls.__name__}: rate, momentum and weight decay ours, the rest its own"
    return Rule(path, summary, module, "of others", _adapted(cls, set(parameters)), lr)


def _find(path: str) -> tuple[str, type[Any]]:
    name, _, attribute = path.partition(":")
    if not all(part.isidentifier() for part in name.split(".")):
        raise InputError(
            f"method {path!r}: {name!r} is not a module's name; write package.module:Class"
        )
    search_here()
    try:
        cls = getattr(importlib.import_module(name), attribute)
    except ModuleNotFoundError as error:
        raise InputError(f"method {path!r}: {error}; write package.module:Class") from error
    except AttributeError as error:
        known = [n for n in dir(importlib.import_module(name)) if n[0].isupper()]
        raise InputError(
            f"method {path!r}: {name} has no {attribute!r}: {nearest(attribute, known)}"
        ) from error
    if not (inspect.isclass(cls) and issubclass(cls, Optimizer)):
        raise InputError(f"method {path!r} is not a torch.optim.Optimizer class")
    if issubclass(cls, LBFGS | SparseAdam):
        raise InputError(f"{cls.__name__} does not work with workers: choose another optimizer")
    return name, cls


def _adapted(cls: type[Any], known: set[str]) -> Build:
    """Give a foreign optimizer the rate, and momentum and weight decay where it has them."""

    def build(params: Iterable[Tensor], **ours: float) -> Optimizer:
        made: Optimizer = cls(params, **{k: v for k, v in ours.items() if k in known})
        return made

    return build
