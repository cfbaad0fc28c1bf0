"""NAME@WHEN: which probe, and before which of a run's steps."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InputError, nearest
from ..setup import Plan
from .kinds import PROBES, ProbeKind

__all__ = ["Asked", "When", "asked", "when"]

FORMS = "a number of steps (10), epoch, a number of epochs (5epochs), start, end"


@dataclass(frozen=True)
class When:
    """Before which steps.

    Attributes:
        kind: "steps", "epochs", "start" or "end".
        every: of so many steps or epochs the first.
    """

    kind: str
    every: int = 1

    def due(self, step: int, plan: Plan) -> bool:
        """Whether step ``step`` is one of them: "epochs" are those that begin with it."""
        if self.kind == "start":
            return step == 0
        if self.kind == "end":
            return step == plan.steps - 1
        if self.kind == "steps":
            return step % self.every == 0
        epoch, place, _ = plan.at(step)
        return place == 0 and epoch % self.every == 0


@dataclass(frozen=True)
class Asked:
    """A probe and its steps."""

    probe: ProbeKind
    when: When


def when(text: str) -> When:
    """Read WHEN.

    Raises:
        InputError: it is none of the forms.

    Example:
        >>> when("10"), when("5epochs")
        (When(kind='steps', every=10), When(kind='epochs', every=5))
    """
    if text in ("start", "end"):
        return When(text)
    if text == "epoch":
        return When("epochs")
    found = re.fullmatch(r"0*([1-9][0-9]{0,8})(epochs)?", text)
    if found is None:
        raise InputError(f"{text!r} does not say before which steps: give {FORMS}")
    return When(found[2] or "steps", int(found[1]))


def asked(text: str, otherwise: str | None = None) -> Asked:
    """Read NAME@WHEN; ``otherwise`` is the WHEN of a name alone.

    Raises:
        InputError: no probe of that name, or no such WHEN.
    """
    name, at, moment = text.partition("@")
    if name not in PROBES:
        raise InputError(f"unknown probe {name!r}: {nearest(name, PROBES)}")
    if not at and otherwise is None:
        raise InputError(f"--probe needs {name}@WHEN: {FORMS}")
    return Asked(PROBES[name], when(moment if at else str(otherwise)))
