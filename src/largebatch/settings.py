"""What one :class:`~largebatch.Workers` was made with, for the parts that it is made of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from . import checks
from .combine import Reduction
from .contracts import GradientNoise, Listener, Memorized, Perturbation, Refreshed
from .likeness import described
from .memory import bytes_needed
from .parallel import Processes, processes_of
from .rates import Owned, check_optimizers, owned_parameters

__all__ = ["Settings", "checked"]


@dataclass(eq=False)
class Settings:
    """The checked arguments of :class:`~largebatch.Workers`, described there.

    Between steps ``count`` may change; all parts of one Workers hold the same settings.
    """

    optimizers: tuple[Optimizer, ...]
    perturb: Perturbation | None
    count: int
    gradient_noise: GradientNoise | None
    noise_dtype: torch.dtype | None
    scaler: GradScaler | None
    reduction: Reduction
    processes: Processes
    heard_by: dict[int, Listener] = field(default_factory=OrderedDict)
    agreed: bool = False  # whether all processes have been found to hold the same

    @cached_property
    def made_with(self) -> str:
        """What every process must have been given alike, in words."""
        perturb, noise = described(self.perturb), described(self.gradient_noise)
        return f"perturb={perturb}, gradient_noise={noise}, reduction={self.reduction}"

    @property
    def workers(self) -> int:
        """How many workers a step has, over all processes."""
        return self.processes.ranks * self.count

    @property
    def least_count(self) -> int:
        """Fewest workers on this process that are enough for the perturbation."""
        least = 1 if self.perturb is None else self.perturb.least_workers
        return -(-least // self.processes.ranks)

    def number(self, local: int) -> int:
        """The number over all processes of a worker of this one."""
        return self.processes.rank * self.count + local

    def owned(self) -> list[Owned]:
        """The parameters in training at this moment, each with its optimizer and group."""
        return owned_parameters(self.optimizers)

    def held(self) -> list[tuple[Tensor, Optimizer]]:
        """Every parameter that the optimizers hold, frozen ones too, each with its optimizer."""
        return [
            (parameter, optimizer)
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        ]

    def parameters(self) -> list[Tensor]:
        """The parameters in training at this moment."""
        return [parameter for parameter, _, _ in self.owned()]

    def remembers(self, step: int) -> Memorized:
        """What is kept of each worker from step ``step`` for the next."""
        return "nothing" if self.perturb is None else self.perturb.remembers(step)

    def bytes_needed(self, step: int) -> int:
        """Bytes that what is kept at step ``step`` takes."""
        if self.remembers(step) == "nothing":
            return 0
        return bytes_needed(self.parameters(), self.count, self.noise_dtype)

    def listeners(self) -> list[Listener]:
        """The optimizers that want to be told of each worker's gradient, and who else listens."""
        return [
            *(each for each in self.optimizers if isinstance(each, Listener)),
            *self.heard_by.values(),
        ]

    def refreshed(self) -> list[Refreshed]:
        """The optimizers that need the loss beyond its gradient."""
        return [each for each in self.optimizers if isinstance(each, Refreshed) and each.refreshes]

    def share(self, weight: float | Tensor | None) -> float | Tensor:
        """A worker's weight, checked, or what it is unless given."""
        if weight is not None:
            checks.check_weight(weight)
            return self.processes.agreed(weight)
        return 1.0 if self.reduction == "mean" else 1.0 / self.count

    def loss_scale(self) -> float | Tensor:
        """What the scaler multiplies losses by at this moment; 1 without one."""
        if self.scaler is None:
            return 1.0
        # scale(1) gives the loss scale as a tensor on the device; get_scale() would synchronize.
        groups = (group for each in self.optimizers for group in each.param_groups)
        device = next(p.device for group in groups for p in group["params"])
        return self.scaler.scale(torch.ones((), device=device)).detach()


def checked(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    perturb: Perturbation | None,
    count: int,
    gradient_noise: GradientNoise | None,
    noise_dtype: torch.dtype | None,
    scaler: GradScaler | None,
    reduction: Reduction,
) -> Settings:
    """The settings of Workers of ``model``; what cannot work is refused by name."""
    processes = processes_of(model)
    optimizers = check_optimizers(optimizer)
    checks.check_ownership(model, optimizers)
    checks.check_arguments(
        perturb, count, gradient_noise, noise_dtype, scaler, reduction, processes.ranks
    )
    checks.check_sharded(perturb, processes.pieces)
    processes.check_step(1 if perturb is None else perturb.passes(0), count)
    return Settings(
        optimizers, perturb, count, gradient_noise, noise_dtype, scaler, reduction, processes
    )
