"""Ablations: a method against itself without one of its parts, decided by a rule fixed before."""

from .course import ablate
from .question import ABLATIONS, Ablation, ablation_for

__all__ = ["ABLATIONS", "Ablation", "ablate", "ablation_for"]
