"""How smooth is the loss along the path itself? SNGM, the (L, lambda)-smoothness of Theorem 2.

L_t = ||g_{t+1} - g_t||/||w_{t+1} - w_t||        relaxed: L_t <= L + lambda*||g_t||
"""

from collections.abc import Sequence

from ..parts import Panel
from ..scales import short, tick_text
from .fields import Points, points
from .figure import Shown, kept, run_keys, source_rows, told
from .layers import Line
from .plot import EPOCHS, WIDE, Across, plot
from .runs import Probed
from .tables import moved, of_lines
from .training import drops, here

PROBE = "path_smoothness"


def path_smoothness(runs: Sequence[Probed]) -> Shown | None:
    """Smoothness over epochs, and against the norm of the gradient.

    Example:
        >>> path_smoothness([]) is None
        True
    """
    seen = [run for run in runs if run.of(PROBE)]
    lines = [Line(r.label, points(r.of(PROBE), "smoothness"), r.style, r.shape) for r in seen]
    if not any(line.ys() for line in lines):
        return None
    return Shown(
        "path-smoothness",
        "Smoothness along the path",
        f"Smoothness L_t {moved({o.label: o.points for o in lines})}. {_correlated(seen)}",
        "Zhao et al. (SNGM), the relaxed smoothness of Theorem 2, which has no figure: points "
        "that rise to the right are what λ above zero means, points on one height what λ = 0 "
        f"means; {here(seen)}.",
        kept([plot("smoothness L_t", EPOCHS, [*drops(seen), *lines]), _against_norm(seen)]),
        of_lines(lines, "smoothness"),
        source_rows(seen, PROBE),
        run_keys(seen),
    )


def _against_norm(runs: Sequence[Probed]) -> Panel | None:
    found = {run.label: _pairs(run) for run in runs}
    xs = [x for pairs in found.values() for x, _ in pairs]
    log = bool(xs) and min(xs) > 0 and max(xs) > WIDE * min(xs)
    across = Across("norm of the gradient", lambda x: f"‖g‖ = {tick_text(float(short(x)))}", log)
    dots = [Line(r.label, _apart(found[r.label]), f"dots {r.style}", r.shape) for r in runs]
    return plot("smoothness L_t, each row a dot", across, dots)


def _pairs(run: Probed) -> list[tuple[float, float]]:
    norms = points(run.of(PROBE), "gradient_norm")
    smooth = points(run.of(PROBE), "smoothness")
    both = zip(norms, smooth, strict=True)
    return sorted((n, s) for (_, n), (_, s) in both if n is not None and s is not None)


def _apart(pairs: Sequence[tuple[float, float]]) -> Points:
    """Each point a piece of its own, so that nothing joins them."""
    return [p for x, y in pairs for p in ((x, y), (x, None))]


def _correlated(runs: Sequence[Probed]) -> str:
    said = []
    for run in runs:
        pairs = _pairs(run)
        if len(pairs) > 4:
            said.append(f"{run.label}: {short(_rank_correlation(pairs))}")
    return f"Rank correlation with ‖g‖: {told(said)}." if said else ""


def _rank_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Spearman's, ties in the order they come."""
    first = {p: k for k, p in enumerate(sorted(range(len(pairs)), key=lambda i: pairs[i][0]))}
    other = {p: k for k, p in enumerate(sorted(range(len(pairs)), key=lambda i: pairs[i][1]))}
    n = len(pairs)
    return 1 - 6 * sum((first[i] - other[i]) ** 2 for i in range(n)) / (n * (n * n - 1))
