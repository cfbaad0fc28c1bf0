"""Where workers look and how that lies to the Hessian's top eigenvectors, run by run.

Runs have rows of the probe ``noise_alignment``: at the same weights, with the same eigenvectors,
the share of the variance of workers' offsets, and of their gradients.
"""

from collections.abc import Callable
from dataclasses import dataclass

from largebatch.lab.report.ablation.read import Ablated, Arm
from largebatch.lab.report.metric import brief
from largebatch.lab.report.parts import Table
from largebatch.lab.report.read import Run, number
from largebatch.lab.report.stats import Estimate, estimate

PROBE, OFFSETS, GRADIENTS = "noise_alignment", "offsets", "gradients"
DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class Look:
    """One look: the shares in the top eigenvectors, of d elements isotropic noise's k/d.

    Example:
        >>> Look(39, 39.0, 0.5, None, 0.001, 5, 2.0).share(OFFSETS)
        0.5
    """

    step: int
    epoch: float
    offsets: float | None
    gradients: float | None
    isotropic: float
    directions: int
    sharpness: float | None

    def share(self, of: str) -> float | None:
        """Of the offsets' or of the gradients' variance."""
        return self.offsets if of == OFFSETS else self.gradients


def looks(run: Run) -> list[Look]:
    """What a run has seen, in order.

    Example:
        >>> row = {"kind": "probe", "probe": "noise_alignment", "step": 3, "epoch": 1.5}
        >>> row |= {"offsets": None, "gradients": {"top_share": 0.5, "top_isotropic_share": 0.01}}
        >>> looks(Run("0", {}, {}, (row,), None))[0].gradients
        0.5
    """
    made = []
    for row in run.metrics:
        if row.get("kind") != "probe" or row.get("probe") != PROBE:
            continue
        offsets, gradients = row.get("offsets") or {}, row.get("gradients") or {}
        any_of = offsets or gradients
        isotropic = number(any_of.get("top_isotropic_share"))
        if isotropic is not None:
            values = any_of.get("eigenvalues") or []
            made.append(
                Look(
                    int(row["step"]),
                    number(row.get("epoch")) or 0.0,
                    number(offsets.get("top_share")),
                    number(gradients.get("top_share")),
                    isotropic,
                    len(values),
                    max((v for x in values if (v := number(x)) is not None), default=None),
                )
            )
    return made


def by_seed(arm: Arm, of: str = OFFSETS) -> dict[int, float]:
    """Mean share over a run's looks, of those that saw one."""
    return _means(arm, lambda look: look.share(of))


def sharpness(arm: Arm) -> Estimate | None:
    """The Hessian's largest eigenvalue at the run's last look, over seeds."""
    seen = {run.seed: looks(run) for run in arm.runs}
    found = [v for of in seen.values() if of and (v := of[-1].sharpness) is not None]
    return estimate(found) if found else None


def mean_share(arm: Arm, of: str = OFFSETS) -> Estimate | None:
    """Over seeds, of what each run saw."""
    found = by_seed(arm, of)
    return estimate(list(found.values())) if found else None


def isotropic(found: Ablated) -> tuple[float, int] | None:
    """What isotropic noise would have, and in how many eigenvectors; None if nobody looked."""
    seen = [look for arm in found.arms for run in arm.runs for look in looks(run)]
    return (seen[0].isotropic, seen[0].directions) if seen else None


def over_time(found: Ablated) -> Table | None:
    """Mean share at each look, by arm, and the largest eigenvalue; None where no run has looked.

    Example:
        >>> over_time(Ablated({"task": "digits"}, (), {}, ())) is None
        True
    """
    seen = {arm.name: [look for run in arm.runs for look in looks(run)] for arm in found.arms}
    steps = sorted({look.step for of in seen.values() for look in of})
    if not steps:
        return None
    rows = []
    for arm, all_looks in seen.items():
        for words, read, written in _COLUMNS:
            at = [
                [v for k in all_looks if k.step == s and (v := read(k)) is not None] for s in steps
            ]
            if any(at):
                rows.append((arm, words, *(written(_mean(values)) for values in at)))
    return Table(("Arm", "Of what", *(f"before update {step + 1:,}" for step in steps)), rows)


def percent(share: float | None) -> str:
    """A share in percent, to two figures.

    Example:
        >>> percent(0.7264), percent(0.00123), percent(None)
        ('73%', '0.12%', '–')
    """
    return DASH if share is None else f"{100 * share:.2g}%".replace("-", "\N{MINUS SIGN}")


_COLUMNS: tuple[tuple[str, Callable[[Look], float | None], Callable[[float | None], str]], ...] = (
    ("offsets in the top eigenvectors", lambda look: look.offsets, percent),
    ("gradients in the top eigenvectors", lambda look: look.gradients, percent),
    ("largest eigenvalue", lambda look: look.sharpness, brief),
)


def _means(arm: Arm, read: Callable[[Look], float | None]) -> dict[int, float]:
    seen = {run.seed: [v for k in looks(run) if (v := read(k)) is not None] for run in arm.runs}
    return {seed: sum(of) / len(of) for seed, of in sorted(seen.items()) if of}


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
