"""The few numbers of a step that processes add up, in one message ahead of the gradients.

    weight = sum over processes of their workers' weights     workers, flaw: likewise
    who[r] = (rank r's step, its count)                       must agree

Where they disagree, noise would be numbered wrongly or two steps mixed: an error names the ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .processes import Processes
from .waiting import explained

__all__ = ["Tally"]

SUMS = 3
CHECKED_STEPS = 100


class Tally:
    """One step's numbers, sent by :meth:`send` and read by :meth:`received`."""

    def __init__(self, processes: Processes, device: torch.device, step: int, count: int) -> None:
        """Remember whose numbers these are."""
        self._processes = processes
        self._device = device
        self._step = step
        self._count = count
        self._numbers: Tensor | None = None
        self._work: Any = None

    @property
    def sent(self) -> bool:
        """Whether the numbers are on their way."""
        return self._numbers is not None

    @torch.no_grad()
    def send(self, weight: float | Tensor, workers: int, flaw: Tensor | None) -> None:
        """Begin to add up: this process's weights and workers, and NaN for a flaw."""
        rank, ranks = self._processes.rank, self._processes.ranks
        who = [0.0] * (2 * ranks)
        who[2 * rank : 2 * rank + 2] = float(self._step), float(self._count)
        # Pinned: a copy from other memory waits for all that the accelerator still has to do.
        cuda = self._device.type == "cuda"
        said = torch.tensor([0.0, workers, 0.0, *who], dtype=torch.float64, pin_memory=cuda)
        numbers = said.to(self._device, non_blocking=True)
        numbers[0] = weight
        if flaw is not None:
            numbers[2] = flaw
        self._numbers = numbers
        group = self._processes.group
        with explained(group):
            self._work = torch.distributed.all_reduce(numbers, group=group, async_op=True)

    def received(self) -> tuple[Tensor, Tensor, Tensor]:
        """The sums of weights, workers and flaws, 0-dim, when every process has sent its own.

        Raises:
            RuntimeError: processes are at different steps or have different counts, or one did
                not come within the group's time limit.
        """
        assert self._numbers is not None
        with explained(self._processes.group):
            self._work.wait()
        # On an accelerator, reading them would stop it at every step.
        if self._numbers.device.type == "cpu" or self._step % CHECKED_STEPS == 0:
            numbers = self._numbers.tolist()
            self._check(numbers[SUMS:])
            if not numbers[1]:
                raise RuntimeError(
                    "combine() before any worker has run on any process: enter `with "
                    "workers.next()` or use backward()"
                )
        weight, workers, flaw = self._numbers[:SUMS].unbind()
        return weight, workers, flaw

    def _check(self, who: Sequence[float]) -> None:
        steps, counts = ([int(each) for each in who[start::2]] for start in (0, 1))
        for what, found, advice in (
            ("step", steps, "every process must run every step, and resume from the same one"),
            ("count", counts, "give Workers the same count on every process, and change it alike"),
        ):
            others = [r for r, each in enumerate(found) if each != found[0]]
            if others:
                raise RuntimeError(
                    f"processes disagree on the {what}: rank 0 has {found[0]}, "
                    + ", ".join(f"rank {r} has {found[r]}" for r in others[:8])
                    + f"; {advice}"
                )
