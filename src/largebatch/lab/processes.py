"""The processes of one run, as torchrun starts them; with one alone everything here is trivial.

each    all of them do it; where one fails, all stop
first   the first does it, and all have what came of it: records, scores, clocks
share   this one's part of a batch, contiguous: the examples of its workers
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from largebatch.parallel.waiting import explained

from .errors import Elsewhere, InputError, exit_code

__all__ = ["ALONE", "Processes", "joined", "launched"]

P = ParamSpec("P")
T = TypeVar("T")

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
LIMIT = timedelta(minutes=30)
"""How long one waits for the others: while the first downloads data, or scores a large network.
Where one fails, its end is noticed at once."""
SETTLING = 0.1
"""Seconds in which a process's threads come to rest."""


@dataclass(frozen=True)
class Processes:
    """All processes of a run, seen from one.

    Attributes:
        rank: this one's number.
        ranks: how many there are.
        local: this one's number on its machine.

    Example:
        >>> half = Processes(rank=1, ranks=2)
        >>> half.share(torch.arange(6))
        (tensor([3, 4, 5]),)
    """

    rank: int = 0
    ranks: int = 1
    local: int = 0

    @property
    def names(self) -> tuple[int, ...]:
        """What tells this process's random numbers from the others'; nothing where it is alone."""
        return () if self.ranks == 1 else (self.rank,)

    def device(self, name: str) -> str:
        """The device that a run's ``device`` means to this process: a GPU for each.

        Raises:
            InputError: it names one of them for all.
        """
        if self.ranks == 1 or not name.startswith("cuda"):
            return name
        if name != "cuda":
            raise InputError(
                f"device {name!r} is one for {self.ranks} processes: choose 'cuda', which gives "
                "each its own"
            )
        return f"cuda:{self.local}"

    def count(self, workers: int) -> int:
        """How many of a step's workers this process runs.

        Raises:
            InputError: they cannot be shared out equally.
        """
        if workers % self.ranks:
            raise InputError(
                f"{self.ranks} processes cannot share {workers} workers (batch_size / worker_size)"
                ": start a number of processes that divides it, or choose another worker_size"
            )
        return workers // self.ranks

    def share(self, *batch: Tensor) -> tuple[Tensor, ...]:
        """This process's examples of a batch."""
        sizes = (len(whole) // self.ranks for whole in batch)
        return tuple(w.narrow(0, self.rank * n, n) for w, n in zip(batch, sizes, strict=True))

    def each(self, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do it in every process; where it fails in some, the first of those says why.

        It must not talk to the other processes, or one that fails would leave them waiting.

        Raises:
            Elsewhere: another process says why.
        """
        error, made = None, None
        try:
            made = do(*args, **kwargs)
        except Exception as found:
            if self.ranks == 1:
                raise
            error = found
        codes = self._gathered(None if error is None else exit_code(error))
        failed = [rank for rank, code in enumerate(codes) if code is not None]
        if error is not None and failed[0] == self.rank:
            raise error
        if failed:
            raise Elsewhere(codes[failed[0]]) from error
        return made  # type: ignore[return-value]

    def first(self, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do it in the first process alone; all have its answer, or stop where it fails."""
        if self.ranks == 1:
            return do(*args, **kwargs)
        error, answer = None, None
        if self.rank == 0:
            try:
                answer = do(*args, **kwargs)
            except Exception as found:
                error = found
        message = [(answer, None if error is None else exit_code(error))]
        with explained(None):
            dist.broadcast_object_list(message, src=0)
        (answer, code) = message[0]
        if error is not None:
            raise error
        if code is not None:
            raise Elsewhere(code)
        return answer  # type: ignore[return-value]

    def gathered(self, value: T) -> list[T]:
        """Every process's value, in their order, in the first process; nothing in the others."""
        if self.ranks == 1:
            return [value]
        found: list[Any] | None = [None] * self.ranks if self.rank == 0 else None
        with explained(None):
            dist.gather_object(value, found, dst=0)
        return found or []

    def mean(self, value: float) -> float:
        """The mean of the processes' values."""
        values: list[float] = self._gathered(value)
        return sum(values) / len(values)

    def wrapped(self, model: nn.Module, *, some_unused: bool) -> nn.Module:
        """The model in DistributedDataParallel, or as it is where this process is alone."""
        if self.ranks == 1:
            return model
        return nn.parallel.DistributedDataParallel(model, find_unused_parameters=some_unused)

    def _gathered(self, value: Any) -> list[Any]:
        if self.ranks == 1:
            return [value]
        found: list[Any] = [None] * self.ranks
        with explained(None):
            dist.all_gather_object(found, value)
        return found


ALONE = Processes()


def launched(environment: Mapping[str, str] = os.environ) -> Processes:
    """The processes that torchrun has started, as it tells each of them; one alone without it.

    Raises:
        InputError: told by half.

    Example:
        >>> launched({})
        Processes(rank=0, ranks=1, local=0)
    """
    if environment.get("WORLD_SIZE", "1") == "1":
        return ALONE
    missing = [name for name in NAMES if not environment.get(name)]
    if missing:
        raise InputError(
            f"WORLD_SIZE={environment['WORLD_SIZE']} is set without {', '.join(missing)}: start by "
            "torchrun --nproc-per-node N -m largebatch, or unset it"
        )
    try:
        rank, ranks, local = (int(environment[name]) for name in NAMES[:3])
    except ValueError as error:
        raise InputError(f"{', '.join(NAMES[:3])} must be whole numbers: {error}") from error
    return Processes(rank, ranks, local)


@contextmanager
def joined() -> Iterator[Processes]:
    """Within, the processes that torchrun has started know each other.

    Raises:
        Elsewhere: interrupted, which the first process says.
    """
    processes = launched()
    if processes.ranks == 1:
        yield processes
        return
    accelerated = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group("cpu:gloo,cuda:nccl" if accelerated else "gloo", timeout=LIMIT)
    try:
        yield processes
    except KeyboardInterrupt as stop:
        # torchrun hands a terminal's Ctrl-C on, which has come to every process already.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if processes.rank:
            raise Elsewhere(130) from stop
        raise
    finally:
        # DDP keeps the group's threads running. They let go of the last message's tensors with the
        # interpreter's lock, and abort the process where the interpreter is already ending.
        time.sleep(SETTLING)
    # Not after a failure, where others may be amid a message: the process's end ends that.
    dist.destroy_process_group()
