"""Where a worker looks: perturbations of the weights before a worker's gradient is taken."""

from .gnc import GNC
from .rnc import RNC
from .switch import Switch

__all__ = ["GNC", "RNC", "Switch"]
