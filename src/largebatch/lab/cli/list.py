"""largebatch list: what has a name, and what it is."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..methods import GROW, LONGER, LOSSES, NOISES, PERTURBATIONS, RULES, Part, Rule
from ..probes import PROBES
from ..recipes import RECIPES
from ..tasks import names, resolve

__all__ = ["add_arguments", "run"]

ANY_OPTIMIZER = {"package.module:Class": "any torch optimizer, e.g. torch.optim:RAdam"}
INTRODUCTION = """\
A method joins an update rule with a perturbation, gradient noise, a loss and options by +: \
sngm+gnc. Perturbations, noises and losses have a parameter of their own (in brackets): a \
comparison tunes one of them, = fixes the others: gnc+agn=0.01.

[+n] means that a step costs n gradients of the batch beyond its own, on average; methods without
it need none."""
WIDEST = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add list's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print everything that has a name."""
    print(json.dumps(_plain(), indent=1, ensure_ascii=False) if options.json else _text())
    return 0


def _plain() -> dict[str, dict[str, Any]]:
    rules = {
        r.name: {
            "summary": r.summary, "source": r.source, "family": r.family,
            "extra_gradients": r.extra,
        }
        for r in RULES.values()
    }  # fmt: skip
    return {
        "tasks": _tasks(),
        "update rules": rules | {n: {"summary": text} for n, text in ANY_OPTIMIZER.items()},
        "perturbations": _plain_parts(PERTURBATIONS),
        "gradient noise": _plain_parts(NOISES),
        "losses": _plain_parts(LOSSES),
        "options": _options(),
        "probes": {
            p.name: {"summary": p.summary, "source": p.source, "cost": p.cost}
            for p in PROBES.values()
        },
        "recipes": _recipes(),
    }


def _plain_parts(parts: Mapping[str, Part[Any]]) -> dict[str, dict[str, Any]]:
    return {
        p.name: {
            "summary": p.summary, "source": p.source, "parameter": p.parameter,
            "extra_gradients": p.extra,
        }
        for p in parts.values()
    }  # fmt: skip


def _text() -> str:
    families = dict.fromkeys(rule.family for rule in RULES.values())
    sections = {
        "Tasks": _tasks(),
        **{
            f"Update rules: {family}": _methods(r for r in RULES.values() if r.family == family)
            for family in families
        },
        "Update rules: of others": ANY_OPTIMIZER,
        "Perturbations": _methods(PERTURBATIONS.values()),
        "Done to the combined gradient": _methods(NOISES.values()),
        "Losses": _methods(LOSSES.values()),
        "Options": _options(),
        "Probes (train --probe NAME@WHEN; cost of one look)": {
            p.name: f"{p.summary} ({p.source}) [{p.cost}]" for p in PROBES.values()
        },
        "Recipes": _recipes(),
    }
    width = min(shutil.get_terminal_size().columns, WIDEST)
    lines = [textwrap.fill(part, width) for part in INTRODUCTION.split("\n\n")]
    for title, rows in sections.items():
        lines += ["", title, *_rows(rows, width)]
    return "\n".join(lines)


def _rows(rows: dict[str, str], width: int) -> Iterator[str]:
    column = max(map(len, rows)) + 4
    for name, text in rows.items():
        yield textwrap.fill(
            text,
            width,
            initial_indent=f"  {name}".ljust(column),
            subsequent_indent=" " * column,
            break_on_hyphens=False,
        )


def _methods(found: Iterable[Rule | Part[Any]]) -> dict[str, str]:
    return {m.name: f"{m.summary} ({m.source}){_parameter(m)}{_cost(m.extra)}" for m in found}


def _parameter(method: Rule | Part[Any]) -> str:
    return f" [{method.parameter}]" if isinstance(method, Part) else ""


def _cost(extra: float) -> str:
    return f" [+{extra:.2g}]" if extra else ""


def _tasks() -> dict[str, str]:
    return {name: resolve(name).title for name in names()}


def _options() -> dict[str, str]:
    return {
        LONGER: "as many updates as the small-batch reference (compare only)",
        GROW: "a batch that doubles at even intervals from the small one to its own (compare only)",
    }


def _recipes() -> dict[str, str]:
    return {name: recipe.summary for name, recipe in RECIPES.items()}
