"""Workers in the Trainer of Hugging Face's transformers: each micro-batch is a worker's.

    training_step:  enter the worker → Trainer's training_step (forward, loss, backward) → leave
    after the group's last micro-batch:  combine; then the Trainer clips and steps as ever

A group is what the Trainer steps on: gradient_accumulation_steps micro-batches, or fewer at an
epoch's end. Its losses add up to the group's (reduction "sum").
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from ..workers import Workers
from .state_files import load_state, save_state
from .trainer_checks import check_class, check_trainer, options_of
from .trainer_group import looks_of, share_of

__all__ = ["WorkersMixin"]

# Not the Trainer itself: a mixin works over its subclasses too, and this needs no import of it.
_Trainer: Any = object


class WorkersMixin(_Trainer):
    """Put before a Trainer class: every micro-batch of a step runs as one of its workers.

    ``class MyTrainer(WorkersMixin, Trainer)``. Workers' count is gradient_accumulation_steps;
    over several processes (DistributedDataParallel) each runs so many. Checkpoints hold what
    workers remember, in one file a process. A method that looks before it runs costs each
    micro-batch twice; SAM on the batch keeps the group's micro-batches for that.

    Args:
        args: what the Trainer takes.
        workers: any of ``perturb``, ``gradient_noise``, ``noise_dtype``, as
            :class:`largebatch.Workers` takes them (count, scaler and reduction are the Trainer's),
            and ``refresh_every``: after how many steps a method that needs the loss itself sees
            it anew, on the group's first micro-batch. None trains as the Trainer alone does.
        kwargs: what the Trainer takes.

    Attributes:
        workers: the :class:`largebatch.Workers` of the present ``train()``; None before the first.

    Raises:
        TypeError: a class that is no Trainer; an unknown key in ``workers``; DeepSpeed, FSDP,
            DataParallel, tensor, context or sequence parallelism, optimizers that step inside the
            backward pass.
        ValueError: too few workers for the perturbation, and what else Workers refuses.

    Example:
        >>> import largebatch as lb, tempfile, torch
        >>> from transformers import Trainer, TrainingArguments
        >>> class MyTrainer(WorkersMixin, Trainer):
        ...     pass
        >>> class Regression(nn.Linear):
        ...     def forward(self, x, labels):
        ...         return {"loss": nn.functional.mse_loss(super().forward(x), labels)}
        >>> data = [{"x": torch.randn(4), "labels": torch.randn(2)} for _ in range(64)]
        >>> arguments = TrainingArguments(
        ...     tempfile.mkdtemp(), gradient_accumulation_steps=4, max_steps=2, use_cpu=True,
        ...     report_to="none", save_strategy="no", disable_tqdm=True, logging_strategy="no",
        ... )
        >>> trainer = MyTrainer(
        ...     Regression(4, 2), arguments, train_dataset=data,
        ...     workers={"perturb": lb.GNC(alpha=0.1)},
        ... )
        >>> trainer.train().global_step  # doctest: +ELLIPSIS
        {'train_runtime': ...
        2
        >>> trainer.workers.count
        4
    """

    def __init__(self, *args: Any, workers: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Check all arguments; Workers are made when ``train()`` has wrapped the model."""
        check_class(type(self), WorkersMixin)
        self.workers: Workers | None = None
        self._workers_options = options_of(workers)
        self._micro_batches: list[Any] = []  # the present group's
        self._ran = 0  # how many of them have
        self._resumed_from: str | None = None
        super().__init__(*args, **kwargs)
        check_trainer(self)
        self._workers_options.check(
            self.args.gradient_accumulation_steps, self.accelerator.num_processes
        )

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        # Those of an earlier train() let go of the model, which has room for one.
        self.workers, self._resumed_from = None, None
        found = super()._prepare_for_training(*args, **kwargs)
        self._micro_batches, self._ran = [], 0
        self.workers = self._workers_options.workers(
            self.model_wrapped,
            self.optimizer,
            count=self.args.gradient_accumulation_steps,
            scaler=self.accelerator.scaler,
        )
        if self._resumed_from is not None:
            process, step = self.args.process_index, self.state.global_step
            load_state(self.workers, self._resumed_from, process, step)
        return found

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        self._resumed_from = checkpoint

    def _save_optimizer_and_scheduler(self, output_dir: str | os.PathLike[str]) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.workers is not None:
            self._end_group()
            save_state(self.workers, output_dir, self.args.process_index)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: Any
    ) -> tuple[list[Any], Any]:
        """The next group's micro-batches, and how many tokens those have."""
        # A callback may have broken the last one off.
        self._end_group()
        batches, tokens = super().get_batch_samples(epoch_iterator, num_batches, device)
        if 0 < len(batches) < num_batches:
            warnings.warn(
                f"the loader ended after {len(batches)} of {num_batches} micro-batches, which it "
                "had not said before: the Trainer does not step on them, so they are left out",
                stacklevel=2,
            )
            batches, tokens = [], None
        self._micro_batches = batches
        return batches, tokens

    def training_step(
        self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None
    ) -> Tensor:
        """One worker's passes, and after the group's last one their mean in ``p.grad``."""
        workers = self._present_workers()
        if self._ran == 0:
            self._begin_group(workers, model, inputs)
        for each in looks_of(workers, self._micro_batches, self._ran):
            self._pass(workers, model, each, num_items_in_batch)
        loss = self._pass(workers, model, inputs, num_items_in_batch)
        self._ran += 1
        if self.accelerator.sync_gradients:
            self._end_group()
        return loss

    def _pass(self, workers: Workers, model: nn.Module, inputs: Any, tokens: Any) -> Tensor:
        share = share_of(self, inputs, tokens)
        with workers.next(share, last=self.accelerator.sync_gradients):
            loss: Tensor = super().training_step(model, inputs, tokens)
        return loss

    def _present_workers(self) -> Workers:
        if self.workers is None:
            raise RuntimeError("training_step() belongs to train(), which makes the workers")
        return self.workers

    def _begin_group(self, workers: Workers, model: nn.Module, inputs: Any) -> None:
        perturb, step = workers.perturb, workers.step
        if workers.refreshes and step % (self._workers_options.refresh_every or 1) == 0:
            model.train()
            workers.refresh(self._mean_loss, model, inputs)
        if perturb is not None and perturb.passes(step) == 2:
            # Where all look before the first runs, a short group must be known as such.
            all_look = perturb.scope(step) == "batch"
            whole = self.args.gradient_accumulation_steps
            workers.count = len(self._micro_batches) if all_look else whole

    def _mean_loss(self, model: nn.Module, inputs: Any) -> Tensor:
        with self.compute_loss_context_manager():
            loss: Tensor = self.compute_loss(model, self._prepare_inputs(inputs))
        return loss

    def _end_group(self) -> None:
        if self._ran:
            self._ran = 0
            self._present_workers().combine()
