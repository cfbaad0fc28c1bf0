"""Where workers look and how that is aligned with the Hessian's top eigenvectors, run by run."""

from dataclasses import dataclass

from largebatch.lab.report.ablation.read import Ablated, Arm
from largebatch.lab.report.parts import Table
from largebatch.lab.report.read import Run, number
from largebatch.lab.report.stats import Estimate, estimate

OFFSETS, GRADIENTS = "offset_alignment", "alignment"
DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class Share:
    """One look: the share of a variance that lies in the top eigenvectors, and isotropic noise's.

    Example:
        >>> Share(39, 39.0, 0.5, 0.001, 5).times
        500.0
    """

    step: int
    epoch: float
    share: float
    isotropic: float
    directions: int

    @property
    def times(self) -> float:
        """How many times isotropic noise's."""
        return self.share / self.isotropic


def shares(run: Run, probe: str) -> list[Share]:
    """The looks of one probe in a run, in order.

    Example:
        >>> row = {"kind": "probe", "probe": "alignment", "step": 3, "epoch": 1.5}
        >>> row |= {"noise_share": [0.3, 0.2], "isotropic_share": 0.01}
        >>> shares(Run("0", {}, {}, (row,), None), "alignment")[0].share
        0.5
    """
    made = []
    for row in run.metrics:
        if row.get("kind") != "probe" or row.get("probe") != probe:
            continue
        found = [number(v) for v in row.get("noise_share") or ()]
        known = [v for v in found if v is not None]
        isotropic = number(row.get("isotropic_share"))
        if known and len(known) == len(found) and isotropic:
            epoch = number(row.get("epoch")) or 0.0
            made.append(Share(int(row["step"]), epoch, sum(known), isotropic, len(known)))
    return made


def last(arm: Arm, probe: str = OFFSETS) -> dict[int, Share]:
    """The last look of each seed's run."""
    seen = {run.seed: shares(run, probe) for run in arm.runs}
    return {seed: of[-1] for seed, of in sorted(seen.items()) if of}


def last_share(arm: Arm, probe: str = OFFSETS) -> Estimate | None:
    """Mean over seeds of the share at the last look."""
    found = [each.share for each in last(arm, probe).values()]
    return estimate(found) if found else None


def over_time(found: Ablated) -> Table | None:
    """Mean share at each look, by arm; None where no run has looked.

    Example:
        >>> over_time(Ablated({"task": "digits"}, (), {}, ())) is None
        True
    """
    cells: dict[tuple[str, str], dict[int, list[float]]] = {}
    for arm in found.arms:
        for probe, words in ((OFFSETS, "offsets"), (GRADIENTS, "worker gradients")):
            by_step: dict[int, list[float]] = {}
            for run in arm.runs:
                for each in shares(run, probe):
                    by_step.setdefault(each.step, []).append(each.share)
            if by_step:
                cells[arm.name, words] = by_step
    steps = sorted({step for of in cells.values() for step in of})
    if not steps:
        return None
    head = ("Arm", "Of what", *(f"update {step:,}" for step in steps))
    rows = [
        (arm, words, *(_percent(of.get(step)) for step in steps))
        for (arm, words), of in cells.items()
    ]
    return Table(head, rows)


def _percent(values: list[float] | None) -> str:
    return DASH if not values else f"{100 * sum(values) / len(values):.2g}%"
