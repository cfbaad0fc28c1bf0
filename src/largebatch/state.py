"""The state of :class:`~largebatch.Workers` between two steps: tensors and plain numbers."""

from __future__ import annotations

import warnings
from typing import Any

from .memory import Memory
from .settings import Settings

__all__ = ["pack", "unpack"]

FORMAT = 1


def pack(step: int, count: int, memory: Memory | None) -> dict[str, Any]:
    """What ``torch.load(..., weights_only=True)`` can read; the slots are copies."""
    return {
        "format": FORMAT,
        "step": step,
        "count": count,
        "rank": 0,
        "kind": memory.kind if memory else "nothing",
        "slots": [b.clone() for b in memory.buffers] if memory and memory.filled else [],
    }


def unpack(state: dict[str, Any], settings: Settings) -> tuple[int, Memory | None]:
    """Step and memory of a packed state; no memory, with a warning, at another count.

    Raises:
        ValueError: a state of another format, or slots that do not fit the parameters.
    """
    if state.get("format") != FORMAT:
        raise ValueError(
            f"a Workers state of format {FORMAT} is required, got {state.get('format')!r}: "
            "was it written by another version of largebatch?"
        )
    step = int(state["step"])
    if not state["slots"]:
        return step, None
    if state["count"] != settings.count:
        warnings.warn(
            f"the state is of {state['count']} workers, there are {settings.count} now: "
            "their gradient noise starts from zero",
            stacklevel=3,
        )
        return step, None
    memory = Memory(state["kind"], settings.parameters(), settings.count, settings.noise_dtype)
    memory.restore(state["slots"])
    return step, memory
