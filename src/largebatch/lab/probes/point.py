"""Probes of a point: of the loss at the weights that a step starts from."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial

from largebatch import probes
from largebatch.batching import split_batch
from largebatch.clean import CleanWeights
from largebatch.probes.gradients import trained
from largebatch.seeding import key

from .kind import ProbeKind
from .moment import Moment

__all__ = ["PROBES", "RunSmoothness"]

SMALLEST = 32
"""Examples of the smallest batch whose gradient's size is measured (CURV, Fig. 3)."""


@dataclass(frozen=True)
class RunSmoothness(probes.Smoothness):
    """Smoothness, and with which offsets the loss was convolved.

    Attributes:
        offsets: "method": those of the run's own perturbation; "gradient noise": those that GNC
            with alpha = 1 would make of the step's gradient noise, for a run whose method has none
            (each worker looks where its neighbour's noise points, since its own would lead it down
            its own loss); None where there is one worker.
    """

    offsets: str | None


def _gradient_size(at: Moment) -> Generator[None, None, probes.GradientSize]:
    examples = len(at.train[0])
    sizes = [SMALLEST << k for k in range(examples.bit_length()) if SMALLEST << k < examples]
    found = probes.gradient_size(
        at.model, at.loss, at.train, [*sizes, examples], seed=at.seed, chunk=at.chunk
    )
    yield
    return found


def _discarded_gradient(at: Moment) -> Generator[None, None, probes.DiscardedGradient]:
    if at.losses is None:
        raise ValueError(
            "discarding small losses needs the loss of each example, which the task does not "
            "say: give Task its losses, (outputs, targets) to shape (examples,)"
        )
    found = probes.discarded_gradient(at.model, at.losses, at.batch, chunk=at.chunk)
    yield
    return found


def _perturbed_loss(at: Moment) -> Generator[None, None, probes.PerturbedLoss]:
    found = probes.perturbed_loss(at.model, at.loss, at.batch, _places(at), chunk=at.chunk)
    yield
    return found


def _smoothness(at: Moment) -> Generator[None, None, RunSmoothness]:
    perturb, places, offsets = at.workers.perturb, None, None
    if perturb is not None and perturb.passes(at.workers.step) == 1:
        places, offsets = _places(at), "method"
    elif at.workers.count > 1:
        places, offsets = _noise_places(at), "gradient noise"
    found = probes.smoothness(at.model, at.loss, at.batch, at.lr, places, chunk=at.chunk)
    yield
    return RunSmoothness(**vars(found), offsets=offsets)


def _curvature_radius(at: Moment) -> Generator[None, None, probes.CurvatureRadius]:
    found = probes.curvature_radius(
        at.model, at.loss, at.batch, seed=key(at.seed, at.step), chunk=min(at.chunk, at.few)
    )
    yield
    return found


def _distance_to_minimum(at: Moment) -> Generator[None, None, probes.DistanceToMinimum]:
    found = probes.distance_to_minimum(
        at.model, at.loss, at.batch, seed=key(at.seed, at.step), chunk=min(at.chunk, at.few)
    )
    yield
    return found


def _places(at: Moment) -> list[probes.Place]:
    return [partial(at.workers.at, worker) for worker in range(at.workers.count)]


def _noise_places(at: Moment) -> list[probes.Place]:
    """Where GNC's workers would look next, of alpha = 1 and one place on in their row."""
    count, weights = at.workers.count, trained(at.model)
    with probes.untouched(at.model):
        own = [
            probes.gradient(at.model, at.loss, share, chunk=at.chunk)
            for share in split_batch(at.batch, count)
        ]
    mean = [sum(each[1:], each[0]) / count for each in zip(*own, strict=True)]
    offsets = [[(m - g) * at.lr for m, g in zip(mean, each, strict=True)] for each in own]
    clean = CleanWeights()
    return [partial(clean.moved, weights, each) for each in (*offsets[1:], offsets[0])]


PROBES = (
    ProbeKind(
        "gradient_size",
        "mean |g| and g² of batches from 32 examples to the full data, and an example's deviation",
        "CURV, Fig. 3 and 7",
        "one gradient of the full data",
        _gradient_size,
    ),
    ProbeKind(
        "discarded_gradient",
        "mean |g| of the batch without 0% to 90% of its smallest losses",
        "CURV, Fig. 9",
        "10 gradients and a forward pass of the batch",
        _discarded_gradient,
        each_loss=True,
    ),
    ProbeKind(
        "perturbed_loss",
        "the batch's loss at the weights and where each worker will look",
        "GNC, Fig. 4 and 8",
        "a forward pass of the batch for each worker, and one more",
        _perturbed_loss,
        alone=True,
        one_pass=True,
    ),
    ProbeKind(
        "smoothness",
        "ranges of loss and gradient along the gradient, plain and convolved",
        "GNC, App. A.6 and Fig. 5",
        "18 gradients of the batch; one more for a method without a perturbation",
        _smoothness,
        alone=True,
    ),
    ProbeKind(
        "curvature_radius",
        "radius of curvature of the loss along each weight: mean, spread, median of a layer",
        "CURV, Eq. 9 and Fig. 2",
        "2 gradients and 16 Hessian products a layer of the batch",
        _curvature_radius,
    ),
    ProbeKind(
        "distance_to_minimum",
        "how far each weight is from its parabola's minimum: mean |g/h| of a layer",
        "CURV, Eq. 25-28",
        "2 gradients and 16 Hessian products a layer of the batch",
        _distance_to_minimum,
    ),
)
