"""Methods by name: an update rule, a perturbation, noise, a loss, options, joined with ``+``.

    msgd   sngm+gnc   muon   torch.optim:RAdam+rnc   sngm+gnc+agn=0.01   msgd+longer

An update rule is one of the table's or any torch optimizer as ``package.module:Class``;
without one it is momentum SGD. ``=`` fixes a part's own parameter. A new method of ours is one
line in the table of ``rules.py``, ``perturbations.py``, ``noises.py`` or ``losses.py``.
"""

from .kinds import LossFn, Method, Part, Rule, RunFacts
from .losses import LOSSES
from .noises import NOISES
from .parsing import GROW, LONGER, PARTS, parse
from .perturbations import PERTURBATIONS
from .rules import RULES

__all__ = [
    "GROW",
    "LONGER",
    "LOSSES",
    "NOISES",
    "PARTS",
    "PERTURBATIONS",
    "RULES",
    "LossFn",
    "Method",
    "Part",
    "Rule",
    "RunFacts",
    "parse",
]
