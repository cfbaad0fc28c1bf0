"""The page: findings first, then every figure that there are rows for."""

from collections.abc import Callable, Sequence

from ..facts import environment_table
from ..metric import count
from ..parts import Table
from ..read import Comparison, number
from ..scales import short
from ..shell import STYLES, filled
from . import batch_sizes as sizes
from . import cosine as directions
from . import update_size as steps
from .alignment import alignment, offset_alignment
from .block_norms import block_norms
from .curvature import curvature
from .curves import curves, score_label, seeds
from .discarded import discarded
from .distance import distance
from .figure import Shown
from .hessian import hessian
from .landscape import loss_line, loss_plane
from .noise_scale import noise_scale
from .noise_shape import noise_shape, offset_shape
from .others import others
from .path import path_smoothness
from .perturbed import perturbed
from .runs import Probed
from .smoothness import smoothness

Family = Callable[[Sequence[Probed]], Shown | Sequence[Shown] | None]
FAMILIES: tuple[Family, ...] = (
    curves,
    seeds,
    directions.cosine,
    noise_shape,
    offset_shape,
    perturbed,
    smoothness,
    noise_scale,
    alignment,
    offset_alignment,
    hessian,
    loss_line,
    loss_plane,
    path_smoothness,
    block_norms,
    sizes.batch_sizes,
    steps.update_size,
    discarded,
    curvature,
    distance,
)
DRAWN = frozenset(
    (
        "gradient_cosine",
        "noise_covariance",
        "offset_covariance",
        "perturbed_loss",
        "smoothness",
        "noise_scale",
        "spectral_noise_scale",
        "alignment",
        "offset_alignment",
        "hessian",
        "loss_line",
        "loss_plane",
        "path_smoothness",
        "block_norms",
        "gradient_size",
        "update_size",
        "discarded_gradient",
        "curvature_radius",
        "distance_to_minimum",
        "training_score",
    )
)


def figures(runs: Sequence[Probed]) -> list[Shown]:
    """Every figure that the runs have rows for, in the order of the page.

    Example:
        >>> figures([])
        []
    """
    found: list[Shown] = []
    for family in FAMILIES:
        made = family(runs)
        found += [made] if isinstance(made, Shown) else made or []
    rest = others(runs, DRAWN)
    return [*found, rest] if rest else found


def render(runs: Sequence[Probed], command: str) -> str:
    """The page as text.

    Example:
        >>> from ..read import Run
        >>> run = Run("0", {"method": "<b>", "batch_size": 64, "seed": 0}, {}, (), None)
        >>> "&lt;b&gt;" in render([Probed(run, {}, "<b>")], "largebatch probe 0")
        True
    """
    shown = figures(runs)
    tasks = dict.fromkeys(str(run.run.config.get("task", "a task")) for run in runs)
    return filled(
        "probes.html.j2",
        (*STYLES, "probes.css"),
        title=", ".join(tasks),
        methods=list(dict.fromkeys(run.run.method for run in runs)),
        runs=runs,
        asked=asked(runs),
        figures=shown,
        findings=[figure for figure in shown if figure.leads],
        rows=sum(len(rows) for run in runs for rows in run.rows.values()),
        command=command,
        environment=environment_table(Comparison({}, (), (), tuple(run.run for run in runs))),
    )


def asked(runs: Sequence[Probed]) -> Table:
    """The runs side by side: what each was asked, what it reached, what was probed.

    Example:
        >>> asked([]).rows
        []
    """
    head = ("run", "task", "method", "batch", "workers of", "rate", "epochs", "seed")
    return Table(
        (*head, f"final {score_label(runs)}", "rows of probes"), [_cells(run) for run in runs]
    )


def _whole(value: float | None) -> str:
    """What was asked is not rounded."""
    return short(None) if value is None else count(value)


def _cells(probed: Probed) -> list[str]:
    run = probed.run
    worker, rate, epochs = (number(run.config.get(k)) for k in ("worker_size", "lr", "epochs"))
    return [
        probed.label,
        str(run.config.get("task", "–")),
        run.method,
        count(run.batch_size),
        _whole(worker),
        short(rate),
        _whole(epochs),
        str(run.seed),
        short(run.value) if run.value is not None else run.status,
        f"{sum(len(rows) for rows in probed.rows.values()):,}",
    ]
