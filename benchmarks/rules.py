"""What `optim.py` times: which rules run beside which, what they may cost, and what they must.

Bytes. A rule's *streams* are how often it must pass over memory the size of all parameters, in a
step that finds nothing in a cache. SGD with momentum reads w, g, u and writes w, u. SNGM must know
the norm before the first weight can move, so it reads g once more (with weight decay w too), and
so do LARS and its kin; CLARS is told the gradients' norms, and reads w once more. LAMB reads
g, m, v, w and writes m, v to learn the norm of its update, then reads m, v, w and writes w: AdamW
does it in one pass. Two floors follow over a baseline:

    bytes       (reads + writes) / (reads + writes): a machine that moves so many bytes a second,
                whichever way they go
    reads only  reads / reads: a core that waits for what it reads, while writes drain beside it;
                such a core cannot come down to the other floor, which is the lower one

The second number is therefore no bound on every machine. Tensors of one dimension, less than a
thousandth of all, are counted like the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

import largebatch as lb

__all__ = ["GROUPS", "Group", "Streams", "Way", "floors"]

Make = Callable[[Sequence[Tensor]], Any]


@dataclass(frozen=True)
class Streams:
    """Passes over memory as large as the parameters."""

    reads: int
    writes: int


@dataclass(frozen=True)
class Way:
    """One rule with its options.

    `before` is run ahead of each step, outside the time. `package` is who else must be installed.
    """

    name: str
    make: Make
    streams: Streams | None = None
    bar: float | None = None
    before: Callable[[Optimizer], object] | None = None
    package: str | None = None

    @property
    def absent(self) -> bool:
        """Whether its package is not installed."""
        return self.package is not None and find_spec(self.package) is None


@dataclass(frozen=True)
class Group:
    """Rules that run in turns with one baseline; `ours` is the rule that the rivals meet."""

    name: str
    baseline: Way
    ways: tuple[Way, ...]
    ours: str | None = None

    @property
    def present(self) -> tuple[Way, ...]:
        """The baseline and whoever is installed."""
        return (self.baseline, *(way for way in self.ways if not way.absent))


def floors(way: Way, baseline: Way) -> dict[str, float] | None:
    """The two floors of the module's head; None for those whose streams nobody counted."""
    if way.streams is None or baseline.streams is None:
        return None
    above, below = way.streams, baseline.streams
    total = (above.reads + above.writes) / (below.reads + below.writes)
    return {"bytes": total, "reads_only": above.reads / below.reads}


def hear(optimizer: Any) -> None:
    """What `Workers` tells CLARS: here one worker, whose gradient is the combined one."""
    parameters = optimizer.param_groups[0]["params"]
    gradients = [parameter.grad for parameter in parameters]
    optimizer.saw(0, parameters, gradients, factor=1.0, weight=1.0)
    optimizer.combined(gradients, factor=1.0)


def rival(package: str, path: str, **given: Any) -> tuple[Way, Way]:
    """An optimizer of another package, imported when it is made.

    With and without multi-tensor operations: which is faster depends on the machine.
    """
    module, _, name = path.rpartition(".")

    def way(how: str, foreach: bool) -> Way:
        def make(parameters: Sequence[Tensor]) -> Any:
            return getattr(import_module(module), name)(parameters, **given, foreach=foreach)

        return Way(f"{path} {how}", make, package=package)

    return way("foreach", True), way("loop", False)


RATE = 1e-6  # the weights shall stay where they are
MOMENTUM: dict[str, Any] = {"lr": RATE, "momentum": 0.9}
DECAYED: dict[str, Any] = {**MOMENTUM, "weight_decay": 1e-4}
ADAM: dict[str, Any] = {"lr": RATE, "betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.01}
ONE_PASS, TWO_READS, THREE_READS = Streams(3, 2), Streams(4, 2), Streams(5, 2)

SGD = Way("SGD", lambda p: torch.optim.SGD(p, **MOMENTUM, fused=True), ONE_PASS)
SGD_DECAYED = Way("SGD, decay", lambda p: torch.optim.SGD(p, **DECAYED, fused=True), ONE_PASS)
ADAMW = Way("AdamW", lambda p: torch.optim.AdamW(p, **ADAM, fused=True), Streams(4, 3))

PLAIN = Group(
    "norm",
    SGD,
    (
        Way("SNGM", lambda p: lb.SNGM(p, **MOMENTUM), TWO_READS, 1.3),
        Way("SNGM, block-wise", lambda p: lb.SNGM(p, **MOMENTUM, blockwise=True), TWO_READS),
    ),
)
NORM_DECAYED = Group(
    "norm, decay",
    SGD_DECAYED,
    (
        Way("SNGM, decay", lambda p: lb.SNGM(p, **DECAYED), THREE_READS, 2.0),
        Way(
            "SNGM, block-wise, decay",
            lambda p: lb.SNGM(p, **DECAYED, blockwise=True),
            THREE_READS,
        ),
    ),
)
FORMS = Group(
    "lars",
    SGD_DECAYED,
    (
        Way("LARS", lambda p: lb.LARS(p, **DECAYED), THREE_READS, 2.0),
        Way("LARS, 2020", lambda p: lb.LARS2020(p, **DECAYED), THREE_READS),
        Way("LARS, buffer", lambda p: lb.LARS(p, **DECAYED, form="buffer"), THREE_READS),
        Way("CLARS", lambda p: lb.CLARS(p, **DECAYED), TWO_READS, before=hear),
    ),
)
STATISTICS = Group(
    "statistics",
    SGD_DECAYED,
    (
        Way("PercentDelta", lambda p: lb.PercentDelta(p, **DECAYED), THREE_READS),
        Way("MCLR", lambda p: lb.MCLR(p, **DECAYED), THREE_READS),
        Way("CBLR, cheap", lambda p: lb.CBLR(p, **DECAYED), ONE_PASS),
    ),
)
LARS_RIVALS = Group(
    "lars, rivals",
    SGD_DECAYED,
    (
        Way("LARS", lambda p: lb.LARS(p, **DECAYED), THREE_READS, 2.0),
        *rival("timm", "timm.optim.Lars", **DECAYED),
        # Leaves the momentum in `p.grad`: from its second step on it descends that.
        *rival("pytorch_optimizer", "pytorch_optimizer.LARS", **DECAYED),
    ),
    ours="LARS",
)
LAMB_RIVALS = Group(
    "lamb",
    ADAMW,
    (
        Way("LAMB", lambda p: lb.LAMB(p, **ADAM), Streams(7, 3), 2.0),
        # Without its clipping by the global norm, which costs two more passes.
        *rival("timm", "timm.optim.Lamb", **ADAM, max_grad_norm=None),
        # With the decay in the update, as LAMB has it, and not ahead of it.
        *rival("pytorch_optimizer", "pytorch_optimizer.Lamb", **ADAM, weight_decouple=False),
    ),
    ours="LAMB",
)
GROUPS = (PLAIN, NORM_DECAYED, FORMS, STATISTICS, LARS_RIVALS, LAMB_RIVALS)
