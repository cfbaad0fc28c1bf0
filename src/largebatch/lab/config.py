"""One complete, typed configuration a run; as JSON it is the run's ``config.json``.

Defaults live here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import InputError, nearest

__all__ = [
    "FORMAT",
    "BatchesConfig",
    "RunConfig",
    "ScheduleConfig",
    "check_seed",
    "from_dict",
    "override",
    "to_dict",
]

FORMAT = 1


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning rate over the run: a warm-up, a shape, a collapse. Times in epochs.

    Attributes:
        kind: the shape after warm-up, reaching from step 0 to the run's end.
        warmup_epochs: length of the linear warm-up.
        warmup_start: rate at step 0 over the peak rate.
        milestones: epochs at which "multistep" multiplies the rate by ``factor``.
        factor: of "multistep".
        power: of "polynomial".
        hold_epoch: whether "cosine" stays constant within an epoch.
        collapse_epoch: divide by five from here on; None for never.
    """

    kind: Literal["cosine", "constant", "linear", "polynomial", "multistep"] = "cosine"
    warmup_epochs: float = 0.0
    warmup_start: float = 0.25
    milestones: tuple[float, ...] = ()
    factor: float = 0.1
    power: float = 2.0
    hold_epoch: bool = False
    collapse_epoch: float | None = None


@dataclass(frozen=True)
class BatchesConfig:
    """Batch sizes before the run's own, where the batch grows. Times in epochs.

    Attributes:
        sizes: the batch of each stage before the last, whose is ``batch_size``; none for a batch
            that stays. The rate is the first one's, and so are the schedule's steps.
        until: the epoch at which each of ``sizes`` ends.
        rule: how the rate follows the batch: "kind" is the optimizer's usual rule, with all else
            that goes with it; "none" leaves everything as it is.
    """

    sizes: tuple[int, ...] = ()
    until: tuple[float, ...] = ()
    rule: Literal["kind", "linear", "sqrt", "none"] = "kind"

    def __post_init__(self) -> None:
        """Check that stages and their ends go together."""
        if len(self.sizes) != len(self.until):
            raise InputError(
                f"batches.sizes has {len(self.sizes)} stages and batches.until {len(self.until)} "
                "ends: give each size the epoch at which it ends"
            )
        if any(size < 1 for size in self.sizes):
            raise InputError(f"batches.sizes must be at least 1 each, got {list(self.sizes)}")
        ends = (0.0, *self.until)
        if any(not a < b < float("inf") for a, b in zip(ends, self.until, strict=False)):
            raise InputError(f"batches.until must rise from above 0, got {list(self.until)}")


@dataclass(frozen=True)
class RunConfig:
    """One run: what is trained on what, how, and from which seed.

    Attributes:
        task: a task of ours or ``package.module:factory``.
        method: an update rule, perturbation and options joined with ``+``.
        batch_size: examples of an update, over all workers; where the batch grows, at the end.
        batches: the sizes before that, where the batch grows.
        worker_size: examples of one worker; the batch is shared by batch_size / worker_size.
        lr: peak learning rate.
        alpha: the parameter that the method's name leaves open, for example a perturbation's
            width; None for methods without one.
        momentum: of rules that have one.
        weight_decay: lambda, of rules that have one.
        epochs: passes over the training examples.
        updates: number of updates in place of ``epochs``; None follows ``epochs``.
        schedule: the learning rate over the run.
        seed: of weights, batches, augmentation and noise.
        split: "validation" trains without the validation examples and scores on them; "test"
            trains on all training examples and scores on the test examples.
        train_size: number of first training examples to use; None for all.
        drop_last: leave an epoch's incomplete batch out.
        augment: "task" for the task's own, "none", or names joined with ``+``.
        evaluations: how often to score during the run, the end included.
        refresh_every: steps from one refresh to the next, of methods that need the loss beyond its
            gradient (``cblr-hessian``); no other looks at it.
        refresh_examples: how many of the batch's examples such a refresh sees at most: it holds
            the graph of a second backward pass over all of them at once.
        noise_dtype: of what methods remember of each worker; null takes the parameters' own.
        device: "cpu" or "cuda".
        threads: of the CPU; part of the configuration because sums depend on it.
        checkpoint_seconds: least time between two checkpoints.
        probes: what the run measures of itself, each ``NAME@WHEN``; its numbers stay the same.
        keep: before which steps a checkpoint is kept for good, a WHEN; empty for none.
        format: version of this form.
    """

    task: str = "digits"
    method: str = "msgd"
    batch_size: int = 64
    worker_size: int = 64
    lr: float = 0.1
    alpha: float | None = None
    momentum: float = 0.9
    weight_decay: float = 1e-4
    epochs: int = 40
    updates: int | None = None
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    batches: BatchesConfig = field(default_factory=BatchesConfig)
    seed: int = 0
    split: Literal["test", "validation"] = "test"
    train_size: int | None = None
    drop_last: bool = True
    augment: str = "task"
    evaluations: int = 40
    refresh_every: int = 10
    refresh_examples: int = 1024
    noise_dtype: Literal["float32", "bfloat16", "float64"] | None = None
    device: str = "cpu"
    threads: int = 1
    checkpoint_seconds: float = 30.0
    probes: tuple[str, ...] = ()
    keep: str = ""
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Check what can be checked without the data."""
        counts = ("batch_size", "worker_size", "epochs", "evaluations", "threads")
        for name in (*counts, "refresh_every", "refresh_examples"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("updates", "train_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1 or null, got {value}")
        if self.batch_size % self.worker_size:
            raise InputError(
                f"workers of worker_size={self.worker_size} cannot share batch_size="
                f"{self.batch_size}: choose a worker_size that divides it"
            )
        for size in self.batches.sizes:
            if size % self.worker_size:
                raise InputError(
                    f"workers of worker_size={self.worker_size} cannot share a stage of {size}: "
                    "choose a worker_size that divides all of batches.sizes"
                )
        if self.batches.sizes and self.updates is not None:
            raise InputError("a batch that grows is counted in epochs: leave updates null")
        for name in ("lr", "momentum", "weight_decay", "alpha"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise InputError(f"{name} must be 0 or more and finite, got {value}")
        if self.momentum >= 1:
            raise InputError(f"momentum must be below 1, got {self.momentum}")
        check_seed(self.seed)

    @property
    def count(self) -> int:
        """Number of workers that share the run's smallest batch."""
        return self.smallest_batch // self.worker_size

    @property
    def smallest_batch(self) -> int:
        """The smallest of the run's batches."""
        return min((*self.batches.sizes, self.batch_size))

    def name(self) -> str:
        """A folder's name: readable, and different wherever the configuration is."""
        digest = hashlib.sha256(json.dumps(to_dict(self), sort_keys=True).encode()).hexdigest()
        alpha = "" if self.alpha is None else f"-alpha{self.alpha:.4g}"
        method = re.sub(r"[^A-Za-z0-9+_.]", "_", self.method)
        return f"{method}-b{self.batch_size}-lr{self.lr:.4g}{alpha}-s{self.seed}-{digest[:8]}"


def check_seed(seed: int) -> None:
    """Refuse a seed that random numbers cannot be named by."""
    if not 0 <= seed < 2**63:
        raise InputError(f"seed must be 0 or more and less than 2^63, got {seed}")


def to_dict(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain JSON values."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    # A run that is not looked at is the run that it was before there were probes.
    return {key: value for key, value in plain.items() if value or key not in ("probes", "keep")}


def from_dict(values: Mapping[str, Any]) -> RunConfig:
    """A configuration from :func:`to_dict`'s values; unknown keys and other formats are errors."""
    if not isinstance(values, Mapping):
        raise InputError(f"a config is a JSON object of keys and values, got {values!r:.80}")
    found = values.get("format", FORMAT)
    if found != FORMAT:
        raise InputError(
            f"the config has format {found!r}, this version of largebatch reads format {FORMAT}: "
            "run it with the version that wrote it, or write it anew"
        )
    made = _build(RunConfig, values, "")
    assert isinstance(made, RunConfig)
    return made


def override(config: RunConfig, assignments: Mapping[str, str]) -> RunConfig:
    """The configuration with ``key=value`` pairs set, as in ``--set schedule.kind=linear``."""
    values = to_dict(config)
    for key, text in assignments.items():
        *path, last = key.split(".")
        target = values
        for part in path:
            target = target.get(part, {})
            if not isinstance(target, dict):
                raise InputError(f"{key!r} names nothing in a config: {part!r} has no parts")
        target[last] = _parse(text)
        if path and not all(p in values for p in path[:1]):
            raise InputError(f"unknown key {key!r}: {nearest(path[0], values)}")
    return from_dict(values)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def _build(cls: type[Any], values: Mapping[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]
    for key in values:
        if key not in known:
            raise InputError(f"unknown key {prefix + key!r}: {nearest(key, known)}")
    return cls(**{k: _convert(hints[k], v, prefix + k) for k, v in values.items()})


def _convert(hint: Any, value: Any, key: str) -> Any:
    """``value`` as ``hint`` asks, or an error naming the key, the kind wanted and the value."""
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return _build(typing.cast("type[Any]", hint), value, key + ".")
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value in inner:
            return value
        raise InputError(f"{key}={value!r}: {nearest(str(value), [str(i) for i in inner])}")
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        return _convert(next(i for i in inner if i is not type(None)), value, key)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(inner[0], v, key) for v in value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise InputError(f"{key} must be {_kind(hint)}, got {value!r}")


def _kind(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return names.get(hint, "a list" if typing.get_origin(hint) is tuple else "keys and values")
