r"""How the learning rate grows with the batch: rules from a base (B0, eta0) to a batch B.

    none     eta = eta0
    linear   eta = eta0 * k                        k = B/B0
    sqrt     eta = eta0 * sqrt(k)
    log      eta = eta0 * (1 + log2(k))            k >= 1
    legw     eta = eta0 * sqrt(k)                  warm-up epochs = k * base warm-up epochs

B, B0: examples per optimizer step; eta, eta0: peak learning rates.
Sources: linear, Krizhevsky (2014) and Goyal et al. (2017), Sec. 2.1; sqrt, Krizhevsky (2014) and
Hoffer et al. (2017); legw, You et al., "Large-batch training for LSTM and beyond" (2019). For
Adam's kind the square root wants betas and eps to move too (Malladi et al. 2022): not done here.
The logarithmic rule is only named by AGN; the formula is our decision: each doubling of the batch
adds eta0, where the linear rule doubles the rate. It meets the linear rule at B0 and 2*B0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import log2, sqrt
from types import MappingProxyType

from ..whole import check_whole
from .base import check_factor

__all__ = ["RULES", "Scaled", "scaled"]


@dataclass(frozen=True)
class Scaled:
    """A peak rate and the warm-up that goes with it.

    Attributes:
        lr: the peak learning rate.
        warmup_epochs: length of the warm-up, in epochs; a fraction is possible.

    Example:
        >>> Scaled(lr=3.2, warmup_epochs=10.0).lr
        3.2
    """

    lr: float
    warmup_epochs: float


def _log(k: float) -> float:
    if k < 1:
        raise ValueError(
            "the log rule needs a batch of at least base_batch (below, the rate would fall to 0 "
            f"and under it), got {k:g} times base_batch: take a smaller base, or another rule"
        )
    return 1.0 + log2(k)


RULES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {"linear": float, "sqrt": sqrt, "log": _log, "legw": sqrt, "none": lambda k: 1.0}
)
"""What each rule multiplies the rate by, given k = B/B0."""


def scaled(
    rule: str, batch: int, base_batch: int, base_lr: float, base_warmup_epochs: float = 0.0
) -> Scaled:
    """Return the rate, and the warm-up, that `rule` gives at `batch`.

    Args:
        rule: "linear", "sqrt", "log", "legw" or "none".
        batch: B, examples per optimizer step.
        base_batch: B0, the batch at which `base_lr` is known to work.
        base_lr: eta0.
        base_warmup_epochs: warm-up at B0, in epochs; "legw" multiplies it by k, the other rules
            pass it through.

    Raises:
        ValueError: an unknown rule (the nearest is named), a batch below 1, or a rule that does
            not hold there.

    Example:
        >>> scaled("linear", 4096, base_batch=32, base_lr=0.025).lr
        3.2
        >>> scaled("legw", 1024, base_batch=256, base_lr=0.1, base_warmup_epochs=0.5)
        Scaled(lr=0.2, warmup_epochs=2.0)
    """
    if rule not in RULES:
        near = get_close_matches(str(rule).lower(), RULES, n=1, cutoff=0.0)[0]
        known = ", ".join(map(repr, RULES))
        raise ValueError(f"no scaling rule {rule!r}: did you mean {near!r}? Known are {known}")
    check_whole("batch", batch)
    check_whole("base_batch", base_batch)
    check_factor("base_lr", base_lr, zero=False)
    check_factor("base_warmup_epochs", base_warmup_epochs)
    if rule == "legw" and base_warmup_epochs == 0:
        raise ValueError(
            "legw lengthens the warm-up with the batch, got base_warmup_epochs=0: give the base "
            "run's, or use rule='sqrt'"
        )
    k = batch / base_batch
    epochs = base_warmup_epochs * (k if rule == "legw" else 1.0)
    return Scaled(base_lr * RULES[rule](k), float(epochs))
