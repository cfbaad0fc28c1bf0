"""Published settings by name. One file a document, one entry a setting."""

from ..config import RunConfig
from ..errors import InputError, nearest
from . import agn, curv, digits, gnc, sngm
from .recipe import Recipe

__all__ = ["RECIPES", "Recipe", "recipe"]

_ALL = (*digits.RECIPES, *agn.RECIPES, *curv.RECIPES, *gnc.RECIPES, *sngm.RECIPES)
RECIPES = {r.name: r for r in _ALL}


def recipe(name: str) -> RunConfig:
    """The configuration of a recipe's name.

    Example:
        >>> recipe("gnc-cifar10-4096").lr
        3.2
    """
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}: {nearest(name, RECIPES)}")
    return RECIPES[name].config
