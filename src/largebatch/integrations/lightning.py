"""Workers in Lightning's loop: each micro-batch is a worker's.

    training_step  →  zero_grad  →  backward  →  on_after_backward  →  clipping  →  step
    enter                                        leave; the group's last: combine

Lightning divides each loss by ``accumulate_grad_batches``, so a group's losses add up to its own:
reduction "sum". A short last group's are divided by the same number, and so they stay.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError:  # the same library under its older name
    from pytorch_lightning import Callback, LightningModule, Trainer

from ..contracts import Perturbation
from ..workers import Workers
from .lightning_checks import check_fit, check_options, check_workers, counts_of
from .lightning_group import Group, workers_of
from .lightning_loss import Loss
from .lightning_state import everyones, of_rank, without_noise

__all__ = ["WorkersCallback"]


class WorkersCallback(Callback):
    """Gives each micro-batch of a Lightning Trainer weights of its own, by ``Workers``.

    A worker is one ``training_step`` of one process; ``count`` is the trainer's
    ``accumulate_grad_batches``, also where that changes between epochs. Outside of
    ``training_step`` and its backward pass weights are the clean ones: in validation, in
    checkpoints, for optimizers and schedulers. Clipping and loss scaling go on as usual. A method
    of two passes calls ``training_step`` twice, with ``self.log`` off in the pass that looks.

    The state is saved in Lightning's checkpoints, whose writer needs room for that of all
    processes; from one written between two steps a run goes on as if uninterrupted. One in the
    middle of a group has neither the group's gradients, as ever in Lightning, nor the workers'
    noise, which then starts from zero: a warning says so.

    Args:
        perturb: where workers look, for example ``GNC(alpha=0.1)``; None for plain accumulation.
        refresh_every: after how many steps to show the loss of a micro-batch anew to what needs
            more of it than its gradient (``EigenNoise``, ``CBLR``).
        workers: the other options of Workers: ``gradient_noise``, ``noise_dtype``.

    Attributes:
        workers: those of the present or the last fit; None before.

    Raises:
        TypeError: an option that Workers does not have, or that the trainer knows. At the start of
            a fit: manual optimization, or a strategy or method that does not work in this loop.
        ValueError: at the start of a fit: fewer workers than the perturbation needs, or
            ``refresh_every`` missing.

    Example:
        >>> import largebatch as lb
        >>> callback = WorkersCallback(lb.GNC(alpha=0.1))
        >>> options = {"accelerator": "cpu", "logger": False}
        >>> trainer = Trainer(accumulate_grad_batches=16, callbacks=[callback], **options)
    """

    def __init__(
        self,
        perturb: Perturbation | None = None,
        *,
        refresh_every: int | None = None,
        **workers: Any,
    ) -> None:
        """Check the options' names; their values are checked when fitting starts."""
        check_options(workers, refresh_every)
        self.workers: Workers | None = None
        self._options = {"perturb": perturb, **workers}
        self._refresh_every = refresh_every
        self._group: Group | None = None
        self._loaded: list[dict[str, Any]] = []  # every process's state, until the next step

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a loop in which workers cannot be told apart."""
        if stage == "fit":
            check_fit(trainer, pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the Workers of this fit."""
        self.workers = self._group = None  # an earlier fit's would keep its model
        counts = counts_of(trainer)
        self.workers = workers_of(trainer, min(counts), self._options)
        check_workers(self.workers, counts, self._refresh_every)
        self._group, self._start = Group(self.workers), self.workers.state_dict()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Have the strategy's training step enter a worker."""
        # No hook of Lightning's lies between on_train_batch_start, after which a batch may still
        # be left out, and forward; and DDP's own no_sync must enclose the worker's.
        inner = trainer.strategy.training_step
        trainer.strategy.training_step = partial(self._training_step, trainer, inner)

    def _training_step(
        self, trainer: Trainer, inner: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        # A loop of the tuner's, with callbacks of its own; or passes without a backward pass, in
        # which StochasticWeightAveraging takes running statistics anew.
        if self not in trainer.callbacks or trainer.fit_loop._skip_backward:
            return inner(*args, **kwargs)
        workers, group = self._of_fit
        loss = Loss(trainer, partial(inner, *args, **kwargs))
        if group.begins(trainer.fit_loop.batch_idx, trainer.accumulate_grad_batches):
            if self._loaded:
                workers.load_state_dict(of_rank(self._loaded, trainer))
                self._loaded = []
            if self._refresh_every and workers.step % self._refresh_every == 0:
                workers.refresh(loss.unlogged)
        return group.run(loss, last=not trainer.fit_loop._should_accumulate())

    @property
    def _of_fit(self) -> tuple[Workers, Group]:
        assert self.workers is not None
        assert self._group is not None
        return self.workers, self._group

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the worker; a group's last combines, before loss scaling and clipping."""
        self._of_fit[1].leave()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave the worker that was running, without a trace."""
        if self._group is not None:
            self._group.abandon(exception)
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the strategy its own training step back."""
        vars(trainer.strategy).pop("training_step", None)

    def state_dict(self) -> dict[str, Any]:
        """Every process's state of the Workers; all processes must call this."""
        if self._loaded or self.workers is None:
            return {"ranks": self._loaded} if self._loaded else {}
        workers, group = self._of_fit
        between = not group.ran
        state = workers.state_dict() if between else without_noise(self._start, workers)
        return {"ranks": everyones(state, workers.model)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict` in the next step."""
        self._loaded = state_dict["ranks"]
