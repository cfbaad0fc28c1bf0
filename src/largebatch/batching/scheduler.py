r"""The batch-size schedule: one object for all that must move with the batch.

    values of a step = the base values of that moment, moved to kappa = B/B0

B: the step's examples, over all replicas; B0: the base batch. See kinds.py and clock.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..whole import check_whole
from .arguments import check_clock, check_parts, check_workers, one_number, rule_and_moves
from .clock import Clock, ClockKind
from .course import Course
from .kinds import Rule
from .plan import Data, Plan
from .position import Position
from .sampler import BatchSizeSampler
from .shares import Shares, least_workers
from .state import identity, pack, unpack
from .values import Values

__all__ = ["BatchSizeSchedule"]


class BatchSizeSchedule(LRScheduler):
    """A learning-rate scheduler that owns the batch size, and what must move with it.

    Write optimizer and scheduler for the base batch; step and save this in the scheduler's place.
    Between steps the groups hold the true values of the next step, which any scheduler of torch's
    inside never sees.

    Tensors in the groups are filled in place: a compiled step is not compiled anew. A Python number
    costs it a compilation for each value; Adam takes rate, betas and eps as tensors.

    Args:
        optimizer: whose groups hold the values for the base batch.
        course: the batch size of each step: ``Stages``, ``Ramp``, ``FollowNoise``.
        base_batch: B0, examples per optimizer step that rate and scheduler were chosen for.
        scheduler: one of torch's, on the same optimizer; None for a constant rate.
        clock: "examples" (the scheduler inside steps once for each base_batch of them, so that it
            passes as in the base run), "steps" of the optimizer, or "epochs".
        warmup_steps: so many steps go one by one; then the clock catches up with the examples.
        kind: the optimizer's, a name of ``KINDS``; None finds it by its class.
        rule: of the rate: "linear", "sqrt", "none" (nothing moves at all) or a function of kappa
            (``largebatch.schedule.RULES["log"]``); None is the kind's.
        moves: which of lr, betas, alpha, momentum, eps, weight_decay move, where a group has
            them; None is the kind's.
        workers: whose ``count`` follows the batch (``largebatch.Workers``); needs the sampler.
        worker_size: examples of one worker, the same at every step.

    Raises:
        TypeError: no optimizer, course or scheduler; ReduceLROnPlateau: see :meth:`unscaled`.
        ValueError: an optimizer without rule or with a schedule; another's scheduler; a wrong name.

    Example:
        >>> import torch, largebatch.batching as batching
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
        >>> decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=100)
        >>> course = batching.Stages({0: 10, 500: 40}, key="examples")
        >>> schedule = BatchSizeSchedule(optimizer, course, base_batch=10, scheduler=decay)
        >>> while schedule.position.examples < 620:
        ...     optimizer.step(); schedule.step()
        >>> round(optimizer.param_groups[0]["lr"], 4), schedule.batch_size  # 4 times 1 - 62/100
        (1.52, 40)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        course: Course,
        *,
        base_batch: int,
        scheduler: LRScheduler | None = None,
        clock: ClockKind = "examples",
        warmup_steps: int = 0,
        kind: str | None = None,
        rule: str | Rule | None = None,
        moves: Sequence[str] | None = None,
        workers: Any = None,
        worker_size: int | None = None,
    ) -> None:
        """Check everything, and write the first step's values into the groups."""
        check_parts(optimizer, course, scheduler)
        check_clock(clock, check_whole("warmup_steps", warmup_steps, least=0))
        check_workers(workers, worker_size)
        self.optimizer, self.scheduler = optimizer, scheduler
        self._clock = Clock(clock, check_whole("base_batch", base_batch), warmup_steps)
        self._workers, self._worker_size = workers, worker_size
        self._sampler: BatchSizeSampler | None = None
        self._plan = Plan(course)
        rate_rule, moving = rule_and_moves(optimizer, kind, rule, moves)
        self._values = Values(optimizer, moving, rate_rule, base_batch, self.batch_size)
        self._moved_on()

    @property
    def batch_size(self) -> int:
        """Examples of the next step, over all replicas; nominally, where the last is short."""
        return self._plan.next.size

    @property
    def position(self) -> Position:
        """Where the next step begins."""
        return self._plan.next.position

    @property
    def epoch(self) -> int:
        """The epoch of the next step."""
        return self.position.epoch

    @property
    def micro_batches(self) -> int:
        """Micro-batches of the next step on each replica.

        Raises:
            RuntimeError: no sampler was made.
        """
        if self._sampler is None:
            raise RuntimeError("micro_batches needs schedule.sampler(length, micro_batch=...)")
        return self._sampler.micro_batches(self._plan.next)

    def sampler(
        self,
        length: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        num_replicas: int = 1,
        rank: int = 0,
        micro_batch: int | None = None,
    ) -> BatchSizeSampler:
        """A ``batch_sampler`` for a DataLoader.

        Args:
            length: examples of the data set.
            seed: names the order of the examples, together with the epoch.
            shuffle: whether to change their order at all.
            drop_last: whether to leave out an epoch's short last batch, whose values are else
                those of the nominal one.
            num_replicas: processes that share each batch.
            rank: this process's number.
            micro_batch: examples of a list, where ``schedule.micro_batches`` lists make a step.

        Raises:
            ValueError: sizes that exceed the data, cannot be cut, or leave too few workers.
            RuntimeError: steps were taken before.
        """
        data = Data(length, seed, shuffle, drop_last)
        shares = Shares(num_replicas, micro_batch, self._worker_size, least_workers(self._workers))
        sampler = BatchSizeSampler(self._plan, data, shares, rank)
        self._plan.attach(data, shares)
        self._sampler = sampler
        self._moved_on()
        return sampler

    def observe(self, noise_scale: float | Tensor) -> None:
        """Tell an adaptive course the simple noise scale, in examples; before ``step()``.

        Of averaged moments, the same on every process; a tensor is read at decisions only.

        Example:
            >>> import torch, largebatch.batching as batching
            >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
            >>> course = batching.FollowNoise(smallest=32, largest=128, every=1)
            >>> schedule = BatchSizeSchedule(optimizer, course, base_batch=32)
            >>> schedule.observe(torch.tensor(70.0))
            >>> optimizer.step(); schedule.step()
            >>> schedule.batch_size, optimizer.param_groups[0]["lr"]
            (64, 2.0)
        """
        self._plan.noise_scale = one_number(noise_scale)

    def step(self) -> None:  # type: ignore[override]
        """Go on to the next step; call it after each optimizer step, skipped ones included.

        Raises:
            RuntimeError: something else has changed the groups, or workers without a sampler.
            ValueError: the next batch exceeds the data, or cannot be cut into whole parts.
        """
        self._values.check_closed("step()")
        if self._workers is not None and self._sampler is None:
            raise RuntimeError("workers= needs schedule.sampler(...), which knows the replicas")
        self._values.check()
        self._clock.check(self.position)
        self._plan.advance()
        self._values.batch = self.batch_size
        with self._values.at_base():
            if self.scheduler is not None:
                for _ in range(self._clock.due(self.position, drop_last=self._plan.drop_last)):
                    self.scheduler.step()
        self._moved_on()

    @contextmanager
    def unscaled(self) -> Iterator[None]:
        """Inside, the groups hold the base values; what is written or added there is the new base.

        Example:
            >>> import torch, largebatch.batching as batching
            >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
            >>> course = batching.Stages({0: 64}, key="steps")
            >>> schedule = BatchSizeSchedule(optimizer, course, base_batch=16)
            >>> plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
            >>> with schedule.unscaled():
            ...     plateau.step(1.0), plateau.step(2.0)
            (None, None)
            >>> plateau.get_last_lr(), schedule.get_last_lr()
            ([0.1], [0.4])
        """
        self._values.check_closed("unscaled()")
        self._values.check()
        try:
            with self._values.at_base():
                yield
        finally:
            self._moved_on()

    def _moved_on(self) -> None:
        self._last_lr = self._values.rates()
        # Loops look at the counts of any scheduler.
        self.last_epoch, self._step_count = self.position.step, self.position.step + 1
        count = self._plan.shares.workers(self.batch_size)
        if self._workers is not None and self._workers.count != count and self._sampler:
            self._workers.count = count

    def state_dict(self) -> dict[str, Any]:
        """Position, decided steps, base values and the scheduler inside; loads weights_only."""
        self._values.check_closed("state_dict()")
        return pack(self._named(), self._plan, self._clock, self._values, self.scheduler)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`; before or after the optimizer's state, before Workers'.

        Raises:
            ValueError: a state of another course, base batch, data or optimizer.
        """
        self._values.check_closed("load_state_dict()")
        unpack(state_dict, self._named(), self._plan, self._clock, self._values, self.scheduler)
        self._values.batch = self.batch_size
        self._values.write()
        self._moved_on()

    def _named(self) -> dict[str, Any]:
        return identity(self._plan.course, self._clock, self._values.rule, self.scheduler)
