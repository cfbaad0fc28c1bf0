"""How the gradient shrinks as the batch grows: CURV, Fig. 3, and Fig. 7 in its loss stride.

    E|g_i| = sigma*sqrt(2/(pi*n))        E g_i^2 = sigma^2/n
    E g_i^2 = G_i^2 + sigma^2/n*(1 - n/N)        with the full gradient G, drawn from N examples;
                                                 E|g_i| likewise: the rows' `expected_magnitude`

n: batch size; sigma: deviation of one example's gradient coordinate, mean zero [CURV 2, 4 and 8;
4 as printed is too large by sqrt 2]. Both lines are drawn from the rows' own `deviation`.
"""

import math
from collections.abc import Callable, Sequence

from ..marks import shorten
from ..metric import count
from ..parts import Panel
from ..read import Record, number
from ..scales import short
from .fields import Points, names, numbers, table_of
from .figure import Shown, kept, key, run_keys, source_rows, told
from .layers import Layer, Line
from .plot import BATCH, limits, plot
from .runs import Probed
from .tables import of_lines
from .training import here

PROBE = "gradient_size"
PANELS = 8
Theory = Callable[[float, float], float]


def mean_gradient(sigma: float, n: float) -> float:
    """E|g| of the mean of n gradients, normal with mean zero and deviation sigma.

    Example:
        >>> round(mean_gradient(1.0, 2 / math.pi), 9)
        1.0
    """
    return sigma * math.sqrt(2 / (math.pi * n))


def mean_square(sigma: float, n: float) -> float:
    """E g^2 of the mean of n gradients with mean zero and deviation sigma.

    Example:
        >>> mean_square(2.0, 4.0)
        1.0
    """
    return sigma**2 / n


def batch_sizes(runs: Sequence[Probed]) -> list[Shown]:
    """The two figures against batch size, of the first row of each run.

    Example:
        >>> batch_sizes([])
        []
    """
    seen = [run for run in runs if run.of(PROBE)]
    found = [
        _figure(
            seen,
            ("gradient-size", "Mean gradient against batch size", "mean |g|", "mean_magnitude"),
            mean_gradient,
            "Form of Gao and Zhong (CURV), Fig. 3: there AlexNet’s first fully connected layer on "
            f"CIFAR-10, 32 to 60,000; {here(seen) if seen else ''}, first probed step. Dashed: "
            "σ√(2/(πn)), their Eq. 4 divided by √2, σ measured over single examples; dotted: "
            "each weight with its own deviation and mean, batches drawn without replacement.",
        ),
        _figure(
            seen,
            ("loss-stride", "Loss stride against batch size", "mean g²", "mean_square"),
            mean_square,
            "Form of Gao and Zhong (CURV), Fig. 7: the stride E(ΔL)/η, which is the mean of g² "
            f"(Eq. 8), there over the first epoch; {here(seen) if seen else ''}, first probed "
            "step. Dashed: σ²/n, σ measured over single examples; dotted: with the gradient’s "
            "mean, batches drawn without replacement, G² + σ²/n·(1 − n/N).",
        ),
    ]
    return [figure for figure in found if figure is not None]


def _figure(
    runs: Sequence[Probed], words: tuple[str, str, str, str], theory: Theory, source: str
) -> Shown | None:
    name, heading, what, field = words
    chosen = _chosen(runs)
    measured = {
        (run.label, layer): _points(run.of(PROBE)[0], field, layer)
        for run in runs
        for layer in chosen
    }
    panels: list[Panel | None] = []
    for layer in chosen:
        lines = [Line(r.label, measured[r.label, layer], r.style, r.shape) for r in runs]
        over: list[Layer] = [*(_theory(run, layer, theory) for run in runs), *lines]
        exact = _exact if field == "mean_square" else _expected
        over[:0] = [exact(run, layer) for run in runs]
        caption = f"{what}: {shorten(layer, 34)}"
        panels.append(plot(caption, BATCH, over, limits(over, log=True)))
    charts = kept(panels)
    told_of = field == "mean_square" or any("expected_magnitude" in r.of(PROBE)[0] for r in runs)
    dotted = [key("with the gradient’s mean", "theory fine")] if told_of else []
    if not charts:
        return None
    return Shown(
        name,
        heading,
        _says(runs, chosen, field, theory, what),
        source,
        charts,
        of_lines(
            [Line(f"{run}: {layer}", values, "") for (run, layer), values in measured.items()],
            what,
            BATCH,
        ),
        source_rows(runs, PROBE) + _left_out(runs, chosen),
        [*run_keys(runs), key("theory", "theory"), *dotted],
        leads=field == "mean_magnitude",
    )


def _names(runs: Sequence[Probed]) -> list[str]:
    rows = [run.of(PROBE)[0] for run in runs]
    return list(dict.fromkeys(n for row in rows for n in names(row)))


def _chosen(runs: Sequence[Probed]) -> list[str]:
    """A few layers from first to last: of weights, where names tell them from biases."""
    every = _names(runs)
    layers = [n for n in every if not n.endswith("bias")] or every
    if len(layers) <= PANELS:
        return layers
    return [layers[round(k * (len(layers) - 1) / (PANELS - 1))] for k in range(PANELS)]


def _left_out(runs: Sequence[Probed], chosen: Sequence[str]) -> str:
    left = len(_names(runs)) - len(chosen)
    return f" Drawn: {len(chosen)} layers, {left} left out." if left else ""


def _place(row: Record, layer: str) -> int | None:
    layers = names(row)
    return layers.index(layer) if layer in layers else None


def _points(row: Record, field: str, layer: str) -> Points:
    k = _place(row, layer)
    if k is None:
        return []
    pairs = zip(numbers(row.get("batch_sizes")), table_of(row, field), strict=False)
    return [
        (size, values[k] if (values[k] or 0) > 0 else None)
        for size, values in pairs
        if size is not None and size > 0 and k < len(values)
    ]


def _theory(run: Probed, layer: str, theory: Theory) -> Line:
    row = run.of(PROBE)[0]
    k, sigmas = _place(row, layer), numbers(row.get("deviation"))
    sigma = sigmas[k] if k is not None and k < len(sigmas) else None
    sizes = [n for n in numbers(row.get("batch_sizes")) if n is not None and n > 0]
    values: Points = [(n, theory(sigma, n)) for n in sizes] if sigma else []
    return Line(f"theory, {run.label}", values, f"{run.style} theory", said=4)


def _expected(run: Probed, layer: str) -> Line:
    """What normal noise about the full gradient makes of mean |g|, weight by weight."""
    values = _points(run.of(PROBE)[0], "expected_magnitude", layer)
    return Line(f"with the gradient’s mean, {run.label}", values, "theory fine", said=4)


def _exact(run: Probed, layer: str) -> Line:
    """What follows for g^2 without taking the gradient's mean as zero or the data as endless."""
    row = run.of(PROBE)[0]
    k, examples = _place(row, layer), number(row.get("examples"))
    full, sigmas = numbers(row.get("full_square")), numbers(row.get("deviation"))
    values: Points = []
    if k is not None and examples and k < min(len(full), len(sigmas)):
        square, sigma = full[k], sigmas[k]
        values = [
            (n, square + mean_square(sigma, n) * max(1 - n / examples, 0.0))
            for n in numbers(row.get("batch_sizes"))
            if n and square is not None and sigma is not None
        ]
    return Line(f"with the gradient’s mean, {run.label}", values, "theory fine", said=4)


def _says(
    runs: Sequence[Probed], layers: Sequence[str], field: str, theory: Theory, what: str
) -> str:
    """Measured over theory at the smallest and the largest batch, over the layers."""
    said = []
    for run in runs:
        ends: dict[float, list[float]] = {}
        for layer in layers:
            row = run.of(PROBE)[0]
            line = dict(_theory(run, layer, theory).points)
            known = [(n, v) for n, v in _points(row, field, layer) if v and line.get(n)]
            for n, v in known[:1] + known[-1:]:
                ends.setdefault(n, []).append(v / (line[n] or math.nan))
        each = [f"{short(min(v))} to {short(max(v))} at {count(n)}" for n, v in ends.items()]
        if each:
            said.append((f"{run.label}: " if len(runs) > 1 else "") + ", ".join(each))
    if not said:
        return f"The rows hold {what} but no deviation: nothing to hold it against."
    return (
        f"Measured {what} over theory, range of the layers, smallest and largest batch: "
        f"{told(said)}. Above 1 the gradient’s mean shows, which theory takes as zero; "
        "below 1 that a layer’s weights differ in their noise."
    )
