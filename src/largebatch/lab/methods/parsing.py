"""From a method's name to the method."""

from __future__ import annotations

from ..errors import InputError, nearest
from .foreign import foreign
from .kinds import Method, Perturb, Rule
from .perturbations import PERTURBATIONS
from .rules import RULES

__all__ = ["LONGER", "parse"]

LONGER = "longer"


def parse(name: str) -> Method:
    """The method of a name such as ``sngm+gnc``; unknown parts give the nearest names.

    Example:
        >>> parse("sngm+gnc").rule.name, parse("rnc").rule.name, parse("msgd+longer").longer
        ('sngm', 'msgd', True)
    """
    rules: list[Rule] = []
    perturbs: list[Perturb] = []
    longer = False
    for part in name.split("+"):
        if part in RULES:
            rules.append(RULES[part])
        elif part in PERTURBATIONS:
            perturbs.append(PERTURBATIONS[part])
        elif part == LONGER:
            longer = True
        elif ":" in part:
            rules.append(foreign(part))
        else:
            known = [*RULES, *PERTURBATIONS, LONGER]
            raise InputError(
                f"unknown method {part!r} in {name!r}: {nearest(part, known)} "
                "(or package.module:Class for any torch optimizer)"
            )
    if len(rules) > 1 or len(perturbs) > 1:
        raise InputError(f"method {name!r} joins two of a kind: at most one rule and perturbation")
    rule = rules[0] if rules else RULES["msgd"]
    return Method(name, rule, perturbs[0] if perturbs else None, longer)
