"""The step: enter a worker, capture its gradient, combine.

A worker is whatever computes one g_i: one of ``count`` on this process, in turn or several at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from . import checks
from .at_once import AtOnce
from .combine import Reduction
from .contracts import GradientNoise, Listener, Perturbation
from .losses import backward
from .order import Worker
from .passes import Passes
from .refreshing import refresh, refreshes
from .settings import checked
from .state import pack, unpack

__all__ = ["Worker", "Workers"]


class Workers:
    """Gives every worker its own weights, keeps every worker's own gradient, leaves their mean.

    After :meth:`combine` (or :meth:`backward`), ``p.grad`` is the mean over workers, so clipping,
    ``GradScaler``, any optimizer and any scheduler go on as usual; it replaces what was in
    ``p.grad``, also of what was frozen since, so ``zero_grad`` is not needed. Outside a worker,
    weights are always the clean ones, bit for bit; give them no other storage (``p.data = ...``)
    within a step, or later workers run unperturbed. Batch norm sees one worker's examples at a
    time; every worker starts from the step's running statistics and their mean is kept. Dropout
    draws from torch's global generator, which is not touched.

    Over a DistributedDataParallel model, or replicas of FSDP2, each process runs ``count`` of a
    step's workers, and all end with the mean over all: gradients are added up in DDP's own buckets,
    or group by group as FSDP2 hands them out, once a step. Shards without replicas run each worker
    together. Every process makes Workers alike, and calls their methods as often.

    Memory: ``count`` x parameters x noise dtype for methods that remember (``bytes_needed``), one
    copy of the perturbed parameters, and one further gradient while a worker runs. Where
    parameters come or go (unfreezing), what is remembered starts from zero.

    Args:
        model: the module in training, the DistributedDataParallel around it, or the module that
            fully_shard was applied to; changed in place, never wrapped.
        optimizer: one that steps the model's parameters, or a sequence of them. Of the
            parameters that require a gradient only those that they hold are perturbed; the
            model's others are combined all the same.
        perturb: where workers look, for example ``GNC(alpha=0.1)``; None for plain accumulation.
        count: workers on this process.
        gradient_noise: for example ``AnnealedNoise(eta=0.01)``, added in ``combine`` or by the
            optimizers' steps.
        noise_dtype: of what is remembered: float32, bfloat16, float64; None takes each
            parameter's own. GNC's noise sums to zero over workers up to its rounding.
        scaler: the GradScaler that scales the losses, so that what is remembered is not scaled;
            ``backward`` then scales the loss itself.
        reduction: "mean" averages losses that are each a worker's mean; "sum" is for loops whose
            losses already add up to the group's on each process, over which the mean is taken.

    Raises:
        TypeError: a model, optimizer or argument of a kind that cannot work, by name.
        ValueError: a count below 1, or too small for the perturbation; an optimizer that holds
            none of the model's parameters; a model of several processes that has Workers.

    Example:
        >>> import largebatch as lb
        >>> model = nn.Linear(4, 2)
        >>> optimizer = lb.SNGM(model.parameters(), lr=0.1)
        >>> workers = lb.Workers(model, optimizer, perturb=lb.GNC(alpha=0.1), count=4)
        >>> x, y = torch.randn(32, 4), torch.randn(32, 2)
        >>> for xi, yi in workers.shards(x, y):
        ...     with workers.next() as worker:
        ...         nn.functional.mse_loss(model(xi), yi).backward()
        >>> workers.combine()
        >>> optimizer.step()
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        perturb: Perturbation | None = None,
        *,
        count: int = 1,
        gradient_noise: GradientNoise | None = None,
        noise_dtype: torch.dtype | None = None,
        scaler: GradScaler | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        """Check everything; allocate nothing that grows with ``count`` before the first step."""
        self.model = model
        self._settings = checked(
            model, optimizer, perturb, count, gradient_noise, noise_dtype, scaler, reduction
        )
        self._passes = Passes(model, self._settings)
        self._at_once = AtOnce(model, self._settings, self._passes)

    @property
    def count(self) -> int:
        """Workers on this process; may be set between steps, as a growing batch wants it.

        What is remembered of them then starts from zero. With :meth:`load_state_dict`, set it
        first. ValueError where too small for the perturbation, RuntimeError within a step.
        """
        return self._settings.count

    @count.setter
    def count(self, count: int) -> None:
        self._passes.recount(count)

    @property
    def least_count(self) -> int:
        """Fewest workers on this process that are enough for the perturbation."""
        return self._settings.least_count

    @property
    def perturb(self) -> Perturbation | None:
        """Where workers look."""
        return self._settings.perturb

    @property
    def step(self) -> int:
        """Number of the step, from 0; how often ``combine`` has been called."""
        return self._passes.step

    @property
    def offset_to_weight_norm(self) -> Tensor | None:
        """‖offset‖ / ‖w‖ over the weights of the last step's first worker here, 0-dim."""
        return self._passes.offset_to_weight_norm

    @property
    def bytes_needed(self) -> int:
        """Bytes that the present step's memory of the local workers takes."""
        return self._settings.bytes_needed(self.step)

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a copy would go on changing this one's model."""
        checks.refuse_copy()

    @contextmanager
    def next(
        self, weight: float | Tensor | None = None, last: bool | None = None
    ) -> Iterator[Worker]:
        """One worker's pass: inside, the weights are its own; run forward and backward there.

        Args:
            weight: the worker's number of examples or tokens (reduction "mean", 1 unless given),
                or its share of the total (reduction "sum", 1/count unless given).
            last: whether this is the step's last pass on this process, so that gradients are added
                up over processes while it runs; None where unknown. The ``count``-th always is.

        A pass that raises leaves no trace and does not count: the next is the same worker's again.

        Raises:
            RuntimeError: all ``count`` workers have run; one is running; no gradient was left.
            TypeError, ValueError: a sparse gradient; a ``weight`` not above 0, or not 0-dim.
        """
        self._passes.check_idle()
        checks.check_room(self._passes.order, self._passes.ran, self._passes.reduced)
        share = self._settings.share(weight)
        with self._settings.processes.waiting(), self._passes.enter(share, last) as worker:
            yield worker

    def combine(self) -> None:
        """Leave the mean over the step's workers in ``p.grad``, with noise that joins gradients.

        Where fewer than ``count`` workers ran, those are averaged and the others' noise is zero;
        of several processes some may have run none. Where it fails, the step is forgotten.

        Raises:
            RuntimeError: no worker has run since the last call, or one still runs; processes
                disagree on the step or the count, or one waits in vain.
        """
        self._passes.check_idle()
        alone = self._settings.processes.ranks == 1
        checks.check_complete(self._passes.order, self._passes.ran, alone=alone)
        with self._settings.processes.waiting():
            self._passes.combine()

    def listen(self, listener: Listener) -> RemovableHandle:
        """Have ``listener``, such as a probe, hear each worker's gradient from the next step on.

        Over several processes all call this alike; ``handle.remove()`` ends it. TypeError for what
        is no :class:`~largebatch.contracts.Listener`, RuntimeError in the middle of a step.
        """
        return self._passes.listen(listener)

    def at(self, worker: int) -> AbstractContextManager[None]:
        """Within, the weights at which local worker ``worker`` will look in the next step.

        No pass is counted. ValueError for a worker that is not there or a step of two passes,
        whose offsets are not known yet; RuntimeError in the middle of a step.
        """
        return self._passes.at(worker)

    def forget(self) -> None:
        """Start the step anew: the workers that ran since the last :meth:`combine` do not count.

        Nor does what was remembered, which they have overwritten. RuntimeError within a worker.
        """
        self._passes.check_idle()
        self._passes.forget()

    def shards(
        self, *batch: Any, inner: tuple[Any, ...] | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Share a batch out in equal pieces, one for each pass that :meth:`next` will open.

        Where each worker looks before it runs, there are two passes a worker. Workers that ran
        without a ``combine`` since are forgotten.

        Args:
            batch: tensors with the example in dimension 0, or tuples, lists, mappings of them.
            inner: another batch, for the passes that look: of a method that looks on other
                examples, which otherwise takes the next worker's.

        Raises:
            ValueError: ``count`` does not divide the batch, or tensors differ in length; ``inner``
                for a method that does not look on other examples.
            TypeError: something that is no tensor, an array or a list, holds one for each example.
            RuntimeError: a worker is running.
        """
        return self._passes.shared(batch, inner)

    def backward(
        self,
        fn: Callable[..., Tensor],
        *batch: Any,
        inner: tuple[Any, ...] | None = None,
        at_once: int = 1,
    ) -> Tensor:
        """In place of ``loss.backward()``: every worker's forward and backward, and combine.

        Args:
            fn: called once for each worker with its piece of the batch; returns the mean loss
                over the piece (reduction "mean") or its share of the sum (reduction "sum").
            batch: as for :meth:`shards`.
            inner: as for :meth:`shards`.
            at_once: how many workers run as one pass, mapped over by ``torch.func.vmap``, which
                holds so many copies of weights, gradients and activations.

        Returns:
            The loss of this process's batch, 0-dim, detached and not scaled, at workers' weights.

        Raises:
            ValueError: ``fn`` returns something else than one number; the batch cannot be shared.
                Whatever is raised, the step is forgotten.
            TypeError: ``at_once`` over several processes, with a method of two passes, with batch
                norm in training mode or a compiled model.
        """
        self._passes.check_idle()
        checks.check_size(at_once)
        try:
            if at_once > 1:
                losses = self._at_once.losses(fn, batch, inner, at_once)
            else:
                losses = [
                    loss
                    for shard in self.shards(*batch, inner=inner)
                    if (loss := self._one(fn, shard)) is not None
                ]
        except BaseException:
            # Between steps again: a batch that did not fit may be tried with another count.
            self._passes.forget()
            raise
        self.combine()
        total = torch.cat(losses).sum()
        return total / self.count if self._settings.reduction == "mean" else total

    def _one(self, fn: Callable[..., Tensor], shard: tuple[Any, ...]) -> Tensor | None:
        with self.next() as worker:
            loss = backward(fn, shard, self._settings.scaler)
        return loss if worker.counts else None

    @property
    def refreshes(self) -> bool:
        """Whether optimizer or perturbation need :meth:`refresh`, every so many steps."""
        return refreshes(self._settings)

    def refresh(self, fn: Callable[..., Tensor], *batch: Any) -> None:
        """Show the loss at the clean weights to what needs more of it than its gradient.

        An optimizer with a Hessian diagonal takes it anew, a perturbation along eigenvectors those.
        Weights, ``p.grad`` and running statistics stay as they are. RuntimeError within a worker.

        Args:
            fn: called as ``fn(*batch)``, perhaps several times; returns the mean loss.
            batch: what fn is called with.
        """
        self._passes.check_idle()
        refresh(self.model, self._settings, self._passes, fn, batch)

    def state_dict(self) -> dict[str, Any]:
        """The step and what is remembered of this process's workers; tensors and numbers only.

        RuntimeError in the middle of a step.
        """
        checks.check_between_steps("state_dict()", self._passes.ran, self._passes.running)
        return pack(self.step, self._settings, self._passes.memory, self._passes.shown)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`; with other workers the noise starts from zero.

        Each process loads its own state, and all must call this. ValueError for a state of another
        format, or slots that do not fit the parameters; RuntimeError within a worker.
        """
        self._passes.check_idle()
        self._passes.resume(*unpack(state, self._settings))
