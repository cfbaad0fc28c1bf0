"""Where a worker looks: perturbations of the weights before a worker's gradient is taken."""

from .eigen import EigenNoise
from .extrapolation import Extrapolation
from .gnc import GNC
from .matched import MatchedNoise
from .rnc import RNC
from .sam import SAM
from .switch import Switch

__all__ = ["GNC", "RNC", "SAM", "EigenNoise", "Extrapolation", "MatchedNoise", "Switch"]
