"""What the Trainer's Workers are made of, and which Trainers are refused, before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from .. import checks
from ..contracts import GradientNoise, Perturbation
from ..workers import Workers

__all__ = ["Options", "check_class", "check_trainer", "options_of"]


@dataclass(frozen=True)
class Options:
    """What ``workers=`` may hold."""

    perturb: Perturbation | None = None
    gradient_noise: GradientNoise | None = None
    noise_dtype: torch.dtype | None = None
    refresh_every: int | None = None

    def check(self, count: int, ranks: int) -> None:
        """Raise as Workers will, where it can be told before the model is wrapped."""
        every = self.refresh_every
        if every is not None and (not isinstance(every, int) or every < 1):
            raise ValueError(f"refresh_every must be a whole number of steps, got {every!r}")
        checks.check_arguments(
            self.perturb, count, self.gradient_noise, self.noise_dtype, None, "sum", ranks
        )

    def workers(
        self, model: nn.Module, optimizer: Optimizer, *, count: int, scaler: GradScaler | None
    ) -> Workers:
        """Workers over the wrapped model.

        Raises:
            ValueError: a method needs to see the loss, and nothing says how often.
        """
        workers = Workers(
            model,
            optimizer,
            self.perturb,
            count=count,
            gradient_noise=self.gradient_noise,
            noise_dtype=self.noise_dtype,
            scaler=scaler,
            reduction="sum",
        )
        if workers.refreshes and self.refresh_every is None:
            raise ValueError(
                "the perturbation or the optimizer needs to see the loss every so many steps: "
                "say how often, as in workers={'refresh_every': 100}"
            )
        return workers


def options_of(workers: Mapping[str, Any] | None) -> Options:
    """The options in ``workers=``.

    Raises:
        TypeError: no mapping, or a key that is none of them.
    """
    if workers is not None and not isinstance(workers, Mapping):
        raise TypeError(
            f"workers= must be a dict such as {{'perturb': lb.GNC(alpha=0.1)}}, got {workers!r}"
        )
    known = [field.name for field in fields(Options)]
    unknown = [key for key in workers or {} if key not in known]
    if unknown:
        raise TypeError(
            f"workers= takes {known}, got {unknown[0]!r} too: model, optimizer, scaler, count "
            "(gradient_accumulation_steps) and reduction are the Trainer's"
        )
    return Options(**(workers or {}))


# What the mixin goes through; most are not promised to stay.
NEEDED = (
    "compute_loss",
    "compute_loss_context_manager",
    "get_batch_samples",
    "training_step",
    "_get_num_items_in_batch",
    "_load_optimizer_and_scheduler",
    "_prepare_for_training",
    "_prepare_inputs",
    "_save_optimizer_and_scheduler",
)


def check_class(trainer: type, mixin: type) -> None:
    """Raise TypeError unless what comes after the mixin is a Trainer with the methods needed."""
    after = trainer.__mro__[trainer.__mro__.index(mixin) + 1 :]
    missing = [name for name in NEEDED if not any(name in vars(each) for each in after)]
    if missing:
        raise TypeError(
            "WorkersMixin goes before transformers' Trainer, as in `class MyTrainer(WorkersMixin, "
            f"Trainer)`, but after it no class of {trainer.__name__} has {missing}: is "
            "transformers of a version that largebatch[huggingface] allows?"
        )


def check_trainer(trainer: Any) -> None:
    """Raise TypeError naming what hides a Trainer's workers."""
    used = [name for name, found in _refused(trainer).items() if found]
    if used:
        raise TypeError(
            f"WorkersMixin does not work with {used[0]}: train in one process, or over "
            "DistributedDataParallel (torchrun, accelerate launch --multi_gpu)"
        )


def _refused(trainer: Any) -> dict[str, bool]:
    args, kind = trainer.args, str(trainer.accelerator.distributed_type).rpartition(".")[2]
    rule = str(getattr(args.optim, "value", args.optim))
    return {
        "DeepSpeed": trainer.is_deepspeed_enabled,
        "FSDP": trainer.is_fsdp_enabled or bool(args.fsdp),
        "a transformers before 5.23, whose Trainer has Accelerate divide losses once more": (
            trainer.accelerator.gradient_accumulation_steps != 1
        ),
        f"accelerate's {kind}": kind in {"XLA", "MEGATRON_LM"},
        "a model sharded as it was loaded (DistributedConfig)": bool(
            getattr(trainer, "is_distributed_loading_by_transformers", False)
        ),
        "tensor parallelism": trainer.get_tp_size() > 1,
        "context parallelism": trainer.get_cp_size() > 1,
        "sequence parallelism": trainer.get_sp_size() > 1,
        "several GPUs in one process (DataParallel; CUDA_VISIBLE_DEVICES=0 leaves one)": args.n_gpu
        > 1,
        "a model spread over several devices (device_map)": trainer.is_model_parallel,
        f"optim={rule!r}, which steps inside the backward pass": (
            "lomo" in rule or "layerwise" in rule
        ),
    }
