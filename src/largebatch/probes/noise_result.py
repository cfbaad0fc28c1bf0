"""What a noise scale's averages say: see :mod:`largebatch.probes.noise_scale`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .averages import Averages
from .geometry import Geometry, Kind

__all__ = ["NoiseScaleResult", "found"]


@dataclass(frozen=True)
class NoiseScaleResult:
    """Averages over the measured steps; NaN where an estimate that is divided by is not above 0.

    Attributes:
        noise_scale: tr(Sigma)/||G||^2, in examples: at such a batch noise and signal are alike.
        gradient_squared: ||G||^2.
        covariance_trace: tr(Sigma), of one example's gradient.
        batch_size: B, in examples.
        sign_noise_scale: the same for sign descent and Adam's kind; None unless asked for.
        spectral_noise_scale: the same for Muon's kind, over matrices; None unless asked for.
        layers: names of the parameters.
        layer_signal_to_noise: B*||G||^2/tr(Sigma) of each, 1 where they are alike at batch B.
        steps: how many steps were measured and counted.
    """

    noise_scale: float
    gradient_squared: float
    covariance_trace: float
    batch_size: float
    sign_noise_scale: float | None
    spectral_noise_scale: float | None
    layers: list[str]
    layer_signal_to_noise: list[float]
    steps: int


def found(averages: Averages, names: Sequence[str], kinds: Sequence[Kind]) -> NoiseScaleResult:
    """The result; read on the host."""
    traces, squares = (averages.mean(name).tolist() for name in ("trace", "square"))
    trace, square = math.fsum(traces), math.fsum(squares)
    batch = float(averages.mean("batch"))
    sizes = Geometry(kinds).sizes(averages) if kinds else {}
    others = {kind: _over(noise, signal) ** 2 for kind, (noise, signal) in sizes.items()}
    return NoiseScaleResult(
        noise_scale=_over(trace, square),
        gradient_squared=square,
        covariance_trace=trace,
        batch_size=batch,
        sign_noise_scale=others.get("sign"),
        spectral_noise_scale=others.get("spectral"),
        layers=list(names),
        layer_signal_to_noise=[_over(batch * s, t) for s, t in zip(squares, traces, strict=True)],
        steps=averages.steps,
    )


def _over(above: float, below: float) -> float:
    return above / below if below > 0 else math.nan
