"""Probes by name and schedule: what a run measures of itself, and what its checkpoints show."""

from .after import planned, probe_run, recorded
from .checks import check_looks
from .kinds import PROBES, ProbeKind
from .moment import Look, Moment
from .probing import Probing, chosen_by
from .when import Asked, When, asked, when

__all__ = [
    "PROBES",
    "Asked",
    "Look",
    "Moment",
    "ProbeKind",
    "Probing",
    "When",
    "asked",
    "check_looks",
    "chosen_by",
    "planned",
    "probe_run",
    "recorded",
    "when",
]
