"""A micro-batch's loss in Lightning's loop, run again where its gradient is not the step's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

__all__ = ["Loss"]


class Loss:
    """What one ``training_step`` returns, as often as it is wanted.

    Args:
        trainer: Lightning's.
        step: calls the strategy's training step with the present batch.
    """

    def __init__(self, trainer: Any, step: Callable[[], Any]) -> None:
        """Run nothing yet."""
        self.step = step
        self._trainer = trainer

    def unlogged(self) -> Tensor:
        """The loss, as a tensor; nothing is logged."""
        with _without_log(self._trainer.lightning_module):
            output = self.step()
        loss = output.get("loss") if isinstance(output, Mapping) else output
        if not isinstance(loss, Tensor):
            raise RuntimeError(
                "training_step must return a loss where it is run more than once a batch, for a "
                f"method of two passes or a refresh, got {type(loss).__name__}"
            )
        return loss

    def look(self) -> None:
        """Leave the gradient in ``p.grad`` that Lightning's own backward would, without hooks."""
        trainer = self._trainer
        loss = self.unlogged() / trainer.accumulate_grad_batches
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        trainer.lightning_module.backward(loss if scaler is None else scaler.scale(loss))


@contextmanager
def _without_log(module: Any) -> Iterator[None]:
    vars(module)["log"] = lambda *args, **kwargs: None
    try:
        yield
    finally:
        del vars(module)["log"]
