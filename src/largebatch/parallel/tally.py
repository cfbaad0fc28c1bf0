"""The few numbers of a step that processes add up, in one message ahead of the gradients.

    weight = sum over processes of their workers' weights     workers, flaw: likewise
    who[r] = (rank r's step, its count, a digest of its perturbation and noise)    must agree

Where they disagree, noise would be numbered wrongly, two steps mixed, or replicas drift apart: an
error names the ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..likeness import digest
from .processes import Processes
from .waiting import explained

__all__ = ["Tally", "Who"]

SUMS = 3
CHECKED_STEPS = 100


@dataclass(frozen=True)
class Who:
    """What a process is at, which must be the same for all.

    Attributes:
        step: the number of its step.
        count: its workers of a whole step.
        made_with: its perturbation and noise, in words.
    """

    step: int
    count: int
    made_with: str

    def numbers(self) -> tuple[float, ...]:
        """One for each."""
        return float(self.step), float(self.count), float(digest(self.made_with))


class Tally:
    """One step's numbers, sent by :meth:`send` and read by :meth:`received`."""

    def __init__(
        self, processes: Processes, device: torch.device, who: Who, *, first: bool = False
    ) -> None:
        """Remember whose numbers these are, and whether they are these Workers' first."""
        self._first = first
        self._processes = processes
        self._device = device
        self._who = who
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
        own = self._who.numbers()
        who = [0.0] * (len(own) * ranks)
        who[len(own) * rank : len(own) * (rank + 1)] = own
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
            RuntimeError: processes are at different steps, have different counts, perturbations
                or noises, or one did not come within the group's time limit.
        """
        assert self._numbers is not None
        with explained(self._processes.group):
            self._work.wait()
        # On an accelerator, reading them would stop it at every step.
        due = self._first or self._who.step % CHECKED_STEPS == 0
        if due or self._numbers.device.type == "cpu":
            numbers = self._numbers.tolist()
            self._check(numbers[SUMS:])
            if not numbers[1]:
                raise RuntimeError(
                    "combine() before any worker has run on any process: enter `with "
                    "workers.next()` or use backward()"
                )
        weight, workers, flaw = self._numbers[:SUMS].unbind()
        return weight, workers, flaw

    def _check(self, numbers: Sequence[float]) -> None:
        kinds = len(self._who.numbers())
        steps, counts, given = ([int(n) for n in numbers[start::kinds]] for start in range(kinds))
        every = "every process must run every step, and resume from the same one"
        _check_same("step", steps, every)
        alike = "give Workers the same count on every process, and change it alike"
        _check_same("count", counts, alike)
        if others := _others(given):
            named = ", ".join(f"rank {r}" for r in others[:8])
            raise RuntimeError(
                f"{named} made Workers with something else than rank 0; rank "
                f"{self._processes.rank} has {self._who.made_with}: give Workers the same on every "
                "process, seeds too, since noise is drawn by the worker's number over all"
            )


def _check_same(what: str, found: Sequence[int], advice: str) -> None:
    if others := _others(found):
        named = ", ".join(f"rank {r} has {found[r]}" for r in others[:8])
        raise RuntimeError(
            f"processes disagree on the {what}: rank 0 has {found[0]}, {named}; {advice}"
        )


def _others(found: Sequence[int]) -> list[int]:
    return [rank for rank, each in enumerate(found) if each != found[0]]
