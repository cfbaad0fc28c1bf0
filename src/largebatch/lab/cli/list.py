"""largebatch list: what has a name, a line each."""

from __future__ import annotations

import argparse
import json

from ..methods import LONGER, PERTURBATIONS, RULES
from ..recipes import RECIPES
from ..tasks import names, resolve

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add list's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print everything that has a name."""
    found = {
        "tasks": {name: resolve(name).title for name in names()},
        "update rules": {r.name: r.summary for r in RULES.values()}
        | {"package.module:Class": "any torch optimizer, e.g. torch.optim:NAdam"},
        "perturbations": {p.name: p.summary for p in PERTURBATIONS.values()},
        "options": {LONGER: "as many updates as the small-batch reference (compare only)"},
        "recipes": {name: recipe.summary for name, recipe in RECIPES.items()},
    }
    print(json.dumps(found, indent=1) if options.json else _table(found))
    return 0


def _table(found: dict[str, dict[str, str]]) -> str:
    lines = ["A method joins an update rule, a perturbation and options with +: sngm+gnc"]
    for kind, rows in found.items():
        width = max(map(len, rows))
        lines += ["", kind.capitalize(), *(f"  {n:<{width}}  {s}" for n, s in rows.items())]
    return "\n".join(lines)
