"""The state of :class:`~largebatch.Workers` between two steps: tensors and plain numbers."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from .memory import Memory
from .settings import Settings

__all__ = ["pack", "unpack"]

FORMAT = 1
KEYS = ("step", "count", "rank", "ranks", "pieces", "kind", "shapes", "slots", "shown")


def pack(
    step: int, settings: Settings, memory: Memory | None, shown: list[Tensor] | None
) -> dict[str, Any]:
    """What ``torch.load(..., weights_only=True)`` can read; the slots are copies."""
    return {
        "format": FORMAT,
        "step": step,
        "count": settings.count,
        "rank": settings.processes.place,
        "ranks": settings.processes.places,
        "pieces": settings.processes.pieces,
        "kind": memory.kind if memory else "nothing",
        "shapes": [list(p.shape) for p in memory.parameters] if memory and memory.filled else [],
        "slots": [b.clone() for b in memory.buffers] if memory and memory.filled else [],
        "shown": [each.clone() for each in shown or []],
    }


def unpack(
    state: dict[str, Any], settings: Settings
) -> tuple[int, Memory | None, list[Tensor] | None]:
    """Step, memory and what was shown; no memory, with a warning, at another count.

    Raises:
        ValueError: a state of another format or with parts missing, or slots that do not fit the
            parameters.
    """
    if state.get("format") != FORMAT:
        raise ValueError(
            f"a Workers state of format {FORMAT} is required, got {state.get('format')!r}: "
            "was it written by another version of largebatch?"
        )
    missing = [key for key in KEYS if key not in state]
    if missing:
        raise ValueError(
            f"a Workers state needs {list(KEYS)}, but {missing} are missing: load what "
            "state_dict() gave, whole"
        )
    step = int(state["step"])
    shown = _shown(state, settings)
    if not _has_noise(state, settings):
        return step, None, shown
    parameters = settings.parameters()
    shapes = [tuple(p.shape) for p in parameters]
    saved = [tuple(shape) for shape in state["shapes"]]
    if saved != shapes:
        # Slots are flat: those of Linear(6, 3) have the size of Linear(3, 6)'s.
        raise ValueError(
            f"the state is of parameters with shapes {saved}, these have {shapes}: was it saved "
            "from another model, or with other parameters frozen?"
        )
    memory = Memory(state["kind"], parameters, settings.count, settings.noise_dtype)
    memory.restore(state["slots"])
    return step, memory, shown


def _has_noise(state: dict[str, Any], settings: Settings) -> bool:
    """Whether every process's slots are of its own workers; says so where some are not."""
    flaw, empty = _flaw(state, settings), not state["slots"]
    processes = settings.processes
    # All start from zero or none does: the noise of some workers would not sum to zero.
    found = torch.tensor([float(flaw is not None), float(empty)])
    found = found.to(settings.parameters()[0].device)
    processes.add_up_everywhere([found])
    flawed, emptied = found.tolist()
    if emptied == processes.places:
        return False
    if flaw is None and (flawed or emptied):
        flaw = "another process's state is not of its workers, or empty"
    if flaw is not None:
        warnings.warn(f"{flaw}: their gradient noise starts from zero", stacklevel=4)
    return flaw is None


def _flaw(state: dict[str, Any], settings: Settings) -> str | None:
    """Why the state's slots are not of this process's workers."""
    processes = settings.processes
    if (state["ranks"], state["count"]) != (processes.places, settings.count):
        one = (state["ranks"], processes.places) == (1, 1)
        over = "" if one else f" on each of {state['ranks']} processes"
        here = "" if one else f" on each of {processes.places}"
        return (
            f"the state is of {state['count']} workers{over}, there are {settings.count}{here} now"
        )
    if state["pieces"] != processes.pieces:
        return (
            f"the state is of workers in {state['pieces']} pieces each, they are in "
            f"{processes.pieces} now"
        )
    if state["rank"] != processes.place:
        return (
            f"the state is of the process of rank {state['rank']}, this one has rank "
            f"{processes.place} (save and load a file for each process)"
        )
    return None


def _shown(state: dict[str, Any], settings: Settings) -> list[Tensor] | None:
    if not state["shown"]:
        return None
    device = settings.parameters()[0].device
    return [each.to(device, copy=True) for each in state["shown"]]
