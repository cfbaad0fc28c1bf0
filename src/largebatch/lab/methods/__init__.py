"""Methods by name: an update rule, a perturbation and options, joined with ``+``.

    msgd   sngm+gnc   muon   torch.optim:RAdam+rnc   msgd+longer

An update rule is one of the table's or any torch optimizer as ``package.module:Class``;
without one it is momentum SGD. A new method of ours is one line in the table of
``rules.py`` or ``perturbations.py``.
"""

from .kinds import Method, Perturb, Rule
from .parsing import LONGER, parse
from .perturbations import PERTURBATIONS
from .rules import RULES

__all__ = ["LONGER", "PERTURBATIONS", "RULES", "Method", "Perturb", "Rule", "parse"]
