"""All probes that have a name."""

from __future__ import annotations

from . import directions, gradients, hessian, noise, point, score, steps
from .kind import ProbeKind

__all__ = ["PROBES", "ProbeKind"]

_ALL: tuple[ProbeKind, ...] = (
    *directions.PROBES,
    *gradients.PROBES,
    *hessian.PROBES,
    *noise.PROBES,
    *point.PROBES,
    *score.PROBES,
    *steps.PROBES,
)
PROBES: dict[str, ProbeKind] = {kind.name: kind for kind in _ALL}
