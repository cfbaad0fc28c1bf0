"""What is known of one method at one batch size, and of all methods at one batch size."""

import math
from dataclasses import dataclass, field

from largebatch.lab.report.read import Record, Run, number
from largebatch.lab.report.stats import Estimate, Share, estimate

BASELINE = "msgd"
LONGER = "+longer"


@dataclass(frozen=True)
class Row:
    """What was measured of one method at one batch size, and how it compares with the baseline.

    Example:
        >>> Row("sngm", 1024, "method", (), {0: 91.0, 1: None}).diverged
        [1]
    """

    method: str
    batch_size: int
    role: str
    runs: tuple[Run, ...]
    values: dict[int, float | None]
    expected: int = 0
    choice: Record = field(default_factory=dict)
    published: tuple[Record, ...] = ()
    difference: Estimate | None = None
    share: Share | None = None
    test_error: float | None = None
    best_on_validation: bool = False
    verdict: str = ""
    survives_bonferroni: bool = False

    @property
    def finished(self) -> list[float]:
        """Final values of the seeds that reached one, in order of seed."""
        return [v for _, v in sorted(self.values.items()) if v is not None]

    @property
    def diverged(self) -> list[int]:
        """Seeds that diverged."""
        return sorted(s for s, v in self.values.items() if v is None)

    @property
    def unfinished(self) -> int:
        """Seeds that were asked for and have no result yet."""
        return max(self.expected - len(self.values), 0)

    @property
    def estimate(self) -> Estimate | None:
        """Mean over the seeds that finished."""
        return estimate(self.finished) if self.finished else None

    @property
    def parameter(self) -> str:
        """What the method's source calls its own parameter, which records call alpha."""
        return str(self.choice.get("parameter") or "alpha")

    @property
    def at_edge(self) -> bool:
        """Whether tuning chose a value at the edge of its grid."""
        return bool(self.choice.get("at_edge", False))

    def mean_result(self, key: str) -> float | None:
        """Mean of a number in result.json over the runs that have it."""
        found = [number((run.result or {}).get(key)) for run in self.runs]
        known = [v for v in found if v is not None]
        return math.fsum(known) / len(known) if known else None

    def settings(self, key: str) -> list[float]:
        """The values a setting has in the runs' configs, or in the choice before there are runs."""
        found = {number(run.config.get(key)) for run in self.runs} or {number(self.choice.get(key))}
        return sorted(v for v in found if v is not None)


@dataclass(frozen=True)
class Section:
    """The rows of one large batch size; the reference's row comes along for its difference.

    Example:
        >>> Section(1024, None, None, ()).all_rows
        []
    """

    batch_size: int
    reference: Row | None
    baseline: Row | None
    methods: tuple[Row, ...]

    @property
    def all_rows(self) -> list[Row]:
        """Reference, baseline, then the methods, best mean first."""
        return [r for r in (self.reference, self.baseline, *self.methods) if r is not None]

    @property
    def best(self) -> list[Row]:
        """The rows that were best on validation: more than one where they tied."""
        return [r for r in self.all_rows if r.best_on_validation]
