"""The workers of one group of micro-batches: entered, left, combined before the optimizer steps."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from torch import nn

from ..parallel import is_sharded
from ..workers import Workers
from .lightning_checks import check_skip, check_whole
from .lightning_loss import Loss

__all__ = ["Group", "workers_of"]


def workers_of(trainer: Any, count: int, options: Mapping[str, Any]) -> Workers:
    """Workers of what the trainer has made: the model in its wrapper, optimizer and scaler."""
    try:
        return Workers(
            _wrapped(trainer.strategy),
            trainer.optimizers,
            count=count,
            scaler=getattr(trainer.precision_plugin, "scaler", None),
            reduction="sum",
            **options,
        )
    except ValueError as error:
        error.add_note("In Lightning, count is the Trainer's accumulate_grad_batches.")
        raise


def _wrapped(strategy: Any) -> nn.Module:
    """The model as Workers takes it: in DDP's wrapper, or the part that fully_shard was applied to.

    That is mostly what the LightningModule holds: FSDP2 hears of ``forward`` only, and Lightning
    calls ``training_step``.
    """
    model: nn.Module = strategy.model
    sharded = next(filter(is_sharded, model.modules()), None)
    if sharded is None:
        check_whole(strategy)
        return model
    trained = {parameter for parameter in model.parameters() if parameter.requires_grad}
    return sharded if trained <= set(sharded.parameters()) else model


class _Skipped(Exception):
    """The training step returned None."""


class Group:
    """Opens a worker's pass in the training step and closes it after its backward pass.

    Attributes:
        ran: how many passes of the present group have run.
    """

    def __init__(self, workers: Workers) -> None:
        """Nothing has run."""
        self.ran = 0
        self._workers = workers
        self._open = ExitStack()  # the pass that is running
        self._last = False

    def begins(self, batch_idx: int, count: int) -> bool:
        """Whether a group begins with this micro-batch; one that was broken off is forgotten."""
        if self.ran and batch_idx % count:
            return False
        if self.ran:  # Lightning drops those gradients too
            self._workers.forget()
            self.ran = 0
        self._workers.count = count
        return True

    def run(self, loss: Loss, last: bool) -> Any:
        """The training step at a worker's weights, which stay until :meth:`leave`.

        Args:
            loss: of the present micro-batch.
            last: whether the optimizer steps after it.
        """
        self._last = last
        try:
            return self._enter(loss)
        except _Skipped:
            self._end()
            return None

    def _enter(self, loss: Loss) -> Any:
        with ExitStack() as running:
            looks = not running.enter_context(self._workers.next(last=self._last)).counts
            if looks:
                with running.pop_all():
                    loss.look()
                self.ran += 1
                running.enter_context(self._workers.next(last=self._last))
            output = loss.step()
            if output is None:
                check_skip(self._workers, looks)
                raise _Skipped
            self._open = running.pop_all()
            return output

    def leave(self) -> None:
        """After the backward pass: take the gradient, and after a group's last combine."""
        self._open.close()
        self.ran += 1
        self._end()

    def _end(self) -> None:
        # A group may end with a micro-batch that was left out.
        if self._last and self.ran:
            self._workers.combine()
            self.ran = 0

    def abandon(self, error: BaseException) -> None:
        """Leave the worker that is running without a trace."""
        self._open.__exit__(type(error), error, error.__traceback__)
