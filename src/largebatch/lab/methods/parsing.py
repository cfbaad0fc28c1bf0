"""From a method's name to the method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError, nearest
from .foreign import foreign
from .kinds import Loss, Method, Noise, Part, Perturb, Rule
from .losses import LOSSES
from .noises import NOISES
from .perturbations import PERTURBATIONS
from .rules import RULES

__all__ = ["GROW", "LONGER", "PARTS", "parse"]

LONGER = "longer"
GROW = "grow"
PARTS: Mapping[str, Part[Any]] = {**PERTURBATIONS, **NOISES, **LOSSES}


@dataclass
class _Found:
    rules: list[Rule] = field(default_factory=list)
    perturbs: list[Perturb] = field(default_factory=list)
    noises: list[Noise] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    fixed: dict[str, float] = field(default_factory=dict)
    longer: bool = False
    grow: bool = False


def parse(name: str) -> Method:
    """The method of a name such as ``sngm+gnc``; unknown parts give the nearest names.

    A part with ``=`` and a number has its parameter fixed: ``gnc+agn=0.01``. At most one is left
    open, as the alpha of a run.

    Example:
        >>> parse("sngm+gnc").rule.name, parse("rnc").rule.name, parse("msgd+longer").longer
        ('sngm', 'msgd', True)
        >>> parse("gnc+agn=0.01").free.name, dict(parse("gnc+agn=0.01").fixed)
        ('gnc', {'agn': 0.01})
    """
    found = _Found()
    for part in name.split("+"):
        _sort(found, part, name)
    kinds = (found.perturbs, found.noises, found.losses)
    if any(len(kind) > 1 for kind in (found.rules, *kinds)):
        raise InputError(
            f"method {name!r} joins two of a kind: at most one update rule, one perturbation, one "
            "gradient noise and one loss"
        )
    method = Method(
        name,
        found.rules[0] if found.rules else RULES["msgd"],
        next(iter(found.perturbs), None),
        next(iter(found.noises), None),
        next(iter(found.losses), None),
        found.fixed,
        found.longer,
        found.grow,
    )
    _check(method)
    return method


def _sort(found: _Found, text: str, name: str) -> None:
    part, equals, value = text.partition("=")
    if equals:
        found.fixed[part] = _number(part, value, name)
    if part in PERTURBATIONS:
        found.perturbs.append(PERTURBATIONS[part])
    elif part in NOISES:
        found.noises.append(NOISES[part])
    elif part in LOSSES:
        found.losses.append(LOSSES[part])
    elif part in RULES:
        found.rules.append(RULES[part])
    elif part == LONGER:
        found.longer = True
    elif part == GROW:
        found.grow = True
    elif ":" in part:
        found.rules.append(foreign(part))
    else:
        known = [*RULES, *PARTS, LONGER, GROW]
        raise InputError(
            f"unknown method {part!r} in {name!r}: {nearest(part, known)} "
            "(or package.module:Class for any torch optimizer)"
        )


def _number(part: str, text: str, name: str) -> float:
    if part not in PARTS:
        raise InputError(
            f"{part!r} in method {name!r} has no parameter to fix: {nearest(part, PARTS)}"
        )
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if not (0 <= value <= PARTS[part].most and math.isfinite(value)):
        raise InputError(
            f"{part}={text!r} in method {name!r}: {PARTS[part].parameter} must be a finite number "
            f"of 0 or more{_at_most(PARTS[part])}, as in {part}={PARTS[part].centre:g}"
        )
    return value


def _at_most(part: Part[Any]) -> str:
    return f" and at most {part.most:g}" if math.isfinite(part.most) else ""


def _check(method: Method) -> None:
    """Refuse a name that leaves more than one parameter open, or has two lengths of a run."""
    if method.longer and method.grow:
        raise InputError(
            f"method {method.id!r} has both {LONGER!r} and {GROW!r}: a batch that grows is counted "
            "in epochs, not in updates; leave one out"
        )
    free = [part for part in method.parts if part.name not in method.fixed]
    if len(free) > 1:
        which = ", ".join(f"{part.parameter} of {part.name}" for part in free)
        last = free[-1]
        raise InputError(
            f"method {method.id!r} leaves {len(free)} parameters open ({which}), and a run has one "
            f"alpha: fix all but one, as in {last.name}={last.centre:g}"
        )
