"""The steps that are decided but not yet trained on: what keeps sampler, rate and resume together.

A DataLoader with worker processes asks for batches ahead of the step. Each step's size is therefore
decided once, kept with the position where the step begins, handed out by the sampler, used for the
rate, and dropped when the step is done. What is left in between belongs to the state.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from torch import Tensor

from ..whole import check_whole
from .course import Course
from .position import Position
from .shares import Shares

__all__ = ["Data", "Plan", "Planned"]


@dataclass(frozen=True)
class Data:
    """What names the batches of a run: the data's length and the order of its examples."""

    length: int
    seed: int
    shuffle: bool
    drop_last: bool


@dataclass(frozen=True)
class Planned:
    """One step: where it begins, and its nominal batch size."""

    position: Position
    size: int

    @property
    def examples(self) -> int:
        """Examples that the step consumes; the last batch of an epoch may be short."""
        length = self.position.length
        return self.size if length is None else min(self.size, length - self.position.place)


_DATA = {field.name for field in fields(Data)}
_ENTRY = {field.name for field in fields(Position)} | {"size"}


class Plan:
    """The next step, and those that were handed out ahead of it."""

    def __init__(self, course: Course) -> None:
        """Decide the first step."""
        self.course = course
        self.data: Data | None = None
        self.noise_scale: float | Tensor | None = None
        self.shares = Shares()
        start = Position()
        self.ahead = deque([Planned(start, self._size(start, None))])

    @property
    def next(self) -> Planned:
        """The next step to train on."""
        return self.ahead[0]

    @property
    def drop_last(self) -> bool:
        """Whether epochs leave a short last batch out; they do where no sampler told."""
        return self.data is None or self.data.drop_last

    def attach(self, data: Data, shares: Shares) -> None:
        """Take over the data, and how every batch is cut."""
        if self.data not in (None, data):
            raise ValueError(f"the schedule's sampler is over {self.data}, got {data}: keep to it")
        if self.data is None and self.next.position.step:
            raise RuntimeError(
                f"the sampler must be made before the first step, {self.next.position.step} were "
                "taken: call schedule.sampler(len(data)) right after making the schedule"
            )
        if not data.drop_last:
            shares.check_short()
        for size in (*self.course.sizes(), *(each.size for each in self.ahead)):
            _check_size(size, data.length, shares)
        self.shares = shares
        if self.data is None:
            start = replace(self.next.position, length=data.length)
            self.data, self.ahead = data, deque([replace(self.next, position=start)])

    def at(self, step: int) -> Planned:
        """The step of that number, decided now if it was not before."""
        index = step - self.next.position.step
        if index < 0:
            raise RuntimeError(
                f"the batch of step {step} was asked for after schedule.step() had come to "
                f"{self.next.position.step}: call it once for each batch (or micro_batches of them)"
            )
        while len(self.ahead) <= index:
            self.ahead.append(self._after(self.ahead[-1]))
        return self.ahead[index]

    def advance(self) -> Planned:
        """Go on to the next step, and return the one that is done."""
        self.at(self.next.position.step + 1)
        return self.ahead.popleft()

    def left(self) -> Iterator[Planned]:
        """The steps of the present epoch from the next one on, as things stand; decides nothing."""
        each, known = self.next, iter([*self.ahead][1:])
        epoch = each.position.epoch
        while each.position.epoch == epoch:
            yield each
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # said when the decision is taken
                each = next(known, None) or self._after(each)

    def _after(self, last: Planned) -> Planned:
        position = last.position.advance(last.examples)
        size = self._size(position, last.size)
        if self.data is not None and position.place:
            rest = self.data.length - position.place
            if rest == 0 or (self.data.drop_last and size > rest):
                position = position.next_epoch()
                size = self._size(position, last.size)
        return Planned(position, size)

    def _size(self, position: Position, current: int | None) -> int:
        size = self.course(position, current, self.noise_scale)
        check_whole(f"the batch size of {type(self.course).__name__}", size)
        _check_size(size, None if self.data is None else self.data.length, self.shares)
        return size

    def state(self) -> dict[str, Any]:
        """Numbers and strings only."""
        scale = self.noise_scale
        return {
            "data": None if self.data is None else asdict(self.data),
            "ahead": [{**asdict(each.position), "size": each.size} for each in self.ahead],
            "noise_scale": None if scale is None else float(scale),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`.

        Raises:
            ValueError: a state of other data, of sizes that cannot be cut, or that lacks something.
        """
        _check_keys("data", state["data"] or _DATA, _DATA)
        for entry in state["ahead"]:
            _check_keys("ahead", entry, _ENTRY)
        data = None if state["data"] is None else Data(**state["data"])
        if self.data is not None and data != self.data:
            raise ValueError(
                f"the state is of a sampler over {data}, got {self.data}: make the sampler as it "
                "was, or start anew"
            )
        entries = list(map(dict, state["ahead"]))
        ahead = [Planned(size=each.pop("size"), position=Position(**each)) for each in entries]
        for each in ahead:
            _check_size(each.size, each.position.length, self.shares)
        self.ahead, self.data, self.noise_scale = deque(ahead), data, state["noise_scale"]


def _check_size(size: int, length: int | None, shares: Shares) -> None:
    if length is not None and size > length:
        raise ValueError(
            f"a batch of {size} is more than the data's {length} examples: choose sizes of at "
            f"most {length}"
        )
    shares.check(size)


def _check_keys(name: str, found: Collection[str], needed: Collection[str]) -> None:
    if set(found) != set(needed):
        raise ValueError(
            f"the state's {name} needs {sorted(needed)}, got {sorted(found)}: load what "
            "state_dict() gave, whole"
        )
