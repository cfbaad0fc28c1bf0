"""The state of :class:`~largebatch.Workers` between two steps: tensors and plain numbers."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor

from .memory import Memory
from .settings import Settings

__all__ = ["pack", "unpack"]

FORMAT = 1
KEYS = ("step", "count", "kind", "shapes", "slots", "shown")


def pack(
    step: int, count: int, memory: Memory | None, shown: list[Tensor] | None
) -> dict[str, Any]:
    """What ``torch.load(..., weights_only=True)`` can read; the slots are copies."""
    return {
        "format": FORMAT,
        "step": step,
        "count": count,
        "rank": 0,
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
    if not state["slots"]:
        return step, None, shown
    if state["count"] != settings.count:
        warnings.warn(
            f"the state is of {state['count']} workers, there are {settings.count} now: "
            "their gradient noise starts from zero",
            stacklevel=3,
        )
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


def _shown(state: dict[str, Any], settings: Settings) -> list[Tensor] | None:
    if not state["shown"]:
        return None
    device = settings.parameters()[0].device
    return [each.to(device, copy=True) for each in state["shown"]]
