"""What Workers refuses, each with what was required, what was given and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from .contracts import GradientNoise, Perturbation
from .memory import DTYPES
from .order import Order

__all__ = [
    "check_arguments",
    "check_at",
    "check_at_once",
    "check_between_steps",
    "check_complete",
    "check_count",
    "check_gradients",
    "check_inner",
    "check_offsets",
    "check_ownership",
    "check_reduced",
    "check_room",
    "check_same_count",
    "check_sharded",
    "check_size",
    "check_weight",
    "refuse_copy",
]


def check_arguments(
    perturb: Perturbation | None,
    count: int,
    gradient_noise: GradientNoise | None,
    noise_dtype: torch.dtype | None,
    scaler: GradScaler | None,
    reduction: str,
    ranks: int = 1,
) -> None:
    """Raise where an argument of Workers is of a kind or size that cannot work."""
    if perturb is not None and not isinstance(perturb, Perturbation):
        raise TypeError(
            f"perturb must be a perturbation such as largebatch.GNC(alpha=0.1), got {perturb!r}"
        )
    check_count(perturb, count, ranks)
    if gradient_noise is not None and not isinstance(gradient_noise, GradientNoise):
        raise TypeError(
            "gradient_noise must be one such as largebatch.AnnealedNoise(eta=0.01), got "
            f"{gradient_noise!r}: your own subclasses largebatch.contracts.GradientNoise"
        )
    if scaler is not None and not isinstance(scaler, GradScaler):
        raise TypeError(
            f"scaler must be a torch.amp.GradScaler or None, got {scaler!r}: pass the one that "
            "scales the losses"
        )
    if noise_dtype is not None and noise_dtype not in DTYPES:
        raise ValueError(f"noise_dtype must be one of {DTYPES} or None, got {noise_dtype}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")


def check_count(perturb: Perturbation | None, count: int, ranks: int = 1) -> None:
    """Raise ValueError unless there are as many workers as the perturbation needs."""
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"Workers needs a whole count of at least 1, got count={count!r}")
    if perturb is not None and ranks * count < perturb.least_workers:
        where = f" on each of {ranks} processes" if ranks > 1 else ""
        raise ValueError(
            f"{perturb} needs at least {perturb.least_workers} workers in all, got count={count}"
            f"{where}: with one worker its noise is zero for ever; raise count so that each batch "
            "is shared; under DistributedDataParallel pass the wrapped model, not its .module; the "
            "processes of a one-dimensional FSDP mesh run each worker together"
        )


def check_sharded(perturb: Perturbation | None, pieces: int) -> None:
    """Raise TypeError for a perturbation that would take pieces of weights for whole ones."""
    if perturb is not None and pieces > 1 and not perturb.sharded:
        raise TypeError(
            f"{type(perturb).__name__} does not say that it works on pieces of weights, which "
            "FSDP2 gives it: take norms and draw random numbers by point.layouts, and set its "
            "property `sharded` to True"
        )


def check_ownership(model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
    """Raise unless the optimizers hold some of the model's parameters, each once, all of them real.

    Raises:
        ValueError: a parameter is held twice, or none is.
        TypeError: a parameter has no shape yet, or is complex.
    """
    theirs = Counter(id(p) for o in optimizers for g in o.param_groups for p in g["params"])
    for name, p in model.named_parameters():
        _check_kind(name, p, held=id(p) in theirs)
    twice = [name for name, p in model.named_parameters() if theirs[id(p)] > 1]
    if twice:
        raise ValueError(
            f"each parameter belongs to one optimizer, but {twice[0]!r} is held twice: share the "
            "parameters out among the optimizers"
        )
    if not any(id(p) in theirs for p in model.parameters()):
        raise ValueError(
            "the optimizer holds none of the model's parameters: make it from this model's "
            "parameters(), after the model was moved or wrapped"
        )


def _check_kind(name: str, parameter: Tensor, *, held: bool) -> None:
    if is_lazy(parameter):
        raise TypeError(
            f"Workers needs parameters that have their shape, but {name!r} is not initialized: "
            "run one forward pass of the model first"
        )
    if held and parameter.is_complex():
        raise TypeError(
            f"Workers needs real parameters, but {name!r} is {parameter.dtype}: hold its real "
            "view (torch.view_as_real) as the parameter"
        )


def check_offsets(
    perturb: Perturbation, offsets: Sequence[Tensor | None], weights: Sequence[Tensor]
) -> None:
    """Raise ValueError unless there is an offset or None for each weight, of its shape."""
    found = [None if o is None else o.shape for o in offsets]
    if len(found) != len(weights) or any(
        shape is not None and shape != w.shape for shape, w in zip(found, weights, strict=True)
    ):
        raise ValueError(
            f"{type(perturb).__name__}.offsets must return, for each of {len(weights)} weights, "
            f"None or a tensor of its shape, got {[s and tuple(s) for s in found]}"
        )


def check_weight(weight: float | Tensor) -> None:
    """Raise ValueError for a weight that says that a worker saw nothing, or is not one number.

    A tensor's value is not read: that would synchronize with the device.
    """
    if isinstance(weight, Tensor) and (weight.ndim or weight.is_complex()):
        raise ValueError(
            f"a worker's weight must be one real number, got a tensor of shape "
            f"{tuple(weight.shape)} and {weight.dtype}: give its sum() or a 0-dim tensor"
        )
    if not isinstance(weight, Tensor) and not 0 < weight < float("inf"):
        raise ValueError(
            f"a worker's weight must be above 0 and finite, got weight={weight}: leave out a "
            "worker that has no examples"
        )


def check_at_once(model: nn.Module, perturb: Perturbation | None, step: int, places: int) -> None:
    """Raise where workers cannot run at once, which is said by name."""
    if places > 1:
        raise TypeError("at_once= works on one process: leave it out over several")
    if perturb is not None and perturb.passes(step) == 2:
        raise TypeError(
            f"at_once= works with methods of one pass, but {perturb} looks before it runs: leave "
            "at_once out"
        )
    for name, module in model.named_modules():
        if module.training and isinstance(getattr(module, "running_mean", None), Tensor):
            raise TypeError(
                f"at_once= cannot keep each worker's running statistics ({name or 'the model'!r}): "
                "use GroupNorm or LayerNorm, or leave at_once out"
            )
        if hasattr(module, "_orig_mod"):
            raise TypeError(
                "at_once= maps over the model's own operations: pass the module that is not "
                "compiled, or leave at_once out"
            )


def check_size(at_once: object) -> None:
    """Raise ValueError unless it is a whole number of workers."""
    if not isinstance(at_once, int) or isinstance(at_once, bool) or at_once < 1:
        raise ValueError(f"at_once must be a whole number of workers from 1, got {at_once!r}")


def check_at(perturb: Perturbation | None, step: int, worker: int, count: int) -> None:
    """Raise ValueError where no offset of that worker is known before its pass."""
    if not isinstance(worker, int) or not 0 <= worker < count:
        raise ValueError(
            f"at() takes a worker of this process, from 0 to {count - 1}: got {worker!r}"
        )
    if perturb is not None and perturb.passes(step) == 2:
        raise ValueError(
            f"at() needs a method of one pass, but {perturb} looks before it knows where to run"
        )


def refuse_copy() -> NoReturn:
    """Raise TypeError: a copy of Workers would go on changing the first one's model."""
    raise TypeError(
        "Workers belongs to its model and optimizer and cannot be copied or pickled: copy "
        "those, make new Workers from them, then load_state_dict(workers.state_dict())"
    )


def check_between_steps(what: str, ran: int, running: bool) -> None:
    """Raise RuntimeError where some of a step's passes have run, or one is running."""
    if ran or running:
        raise RuntimeError(f"{what} in the middle of a step: call combine() first")


def check_room(order: Order, ran: int, reduced: bool) -> None:
    """Raise RuntimeError where all passes of the step have run."""
    if reduced and ran < order.length:
        raise RuntimeError(
            "a worker after the one that next(last=True) said was the step's last: its gradients "
            "have been reduced; call combine()"
        )
    if ran >= order.length:
        raise RuntimeError(
            f"all count={order.count} workers of this step have run: call combine() before "
            "the next step's, or make Workers with a larger count"
        )


def check_same_count(order: Order, count: int) -> None:
    """Raise RuntimeError where the number of workers changed while a batch is shared out."""
    if count != order.count:
        raise RuntimeError(
            f"a batch is being shared out among {order.count} workers, and count={count} now: "
            "set the count before shards()"
        )


def check_complete(order: Order, ran: int, *, alone: bool = True) -> None:
    """Raise RuntimeError where the passes that ran are no whole workers.

    Of several processes one may have none to run.
    """
    if ran == 0 and (alone or order.passes == 2):
        raise RuntimeError(
            "combine() before any worker has run: enter `with workers.next()` or use backward()"
        )
    if order.passes == 1:
        return
    missing = ran % 2 if order.scope == "worker" else ran != order.length
    if missing:
        raise RuntimeError(
            f"combine() after {ran} of {order.length} passes: here each of {order.count} workers "
            "looks before it runs; take the shards of workers.shards(), which come in that order"
        )


def check_inner(perturb: object, elsewhere: bool, inner: object) -> None:
    """Raise where a batch is given to look on, and nothing looks there."""
    if inner is None:
        return
    if not elsewhere:
        raise ValueError(f"inner= is another batch to look on, but {perturb} looks on no other")
    if not isinstance(inner, tuple):
        raise TypeError(f"inner= must be a tuple like the batch, got {type(inner).__name__}")


def check_gradients(owned: Sequence[Tensor | None], gradients: Sequence[Tensor | None]) -> None:
    """Raise where a worker left no owned gradient, or any that cannot be added up in place."""
    if all(g is None for g in owned):
        raise RuntimeError(
            "a worker must leave a gradient, but no trained parameter has one: call "
            "loss.backward() inside the worker's `with` block"
        )
    if any(g is not None and g.layout != torch.strided for g in gradients):
        raise TypeError(
            "Workers needs dense gradients, got a sparse one: make the embedding with sparse=False"
        )


def check_reduced(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor | None], came: set[int]
) -> None:
    """Raise RuntimeError where a parameter has a gradient that other processes do not know of."""
    pairs = zip(parameters, gradients, strict=True)
    apart = [tuple(p.shape) for p, g in pairs if g is not None and id(p) not in came]
    if apart:
        raise RuntimeError(
            f"parameters of shapes {apart[:8]} have a gradient, but DistributedDataParallel does "
            "not reduce it: wrap the model anew after unfreezing, have it hold all that the "
            "optimizers hold, and ignore no parameter in training"
        )
