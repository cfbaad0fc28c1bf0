"""The table of final results as text, one cell a question; page and terminal share it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from largebatch.lab.report.finding import diverged
from largebatch.lab.report.marks import role
from largebatch.lab.report.metric import Metric, brief, count, percent
from largebatch.lab.report.row import Row, Section
from largebatch.lab.report.stats import SEEDS_FOR_A_VERDICT, Estimate, Share

DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class Cells:
    """One row of results, written out; `notes` are what must be known to read the verdict.

    Example:
        >>> metric = Metric("accuracy_percent", True, 1)
        >>> row = Row("sngm", 1024, "method", (), {0: 91.0, 1: None}, expected=2)
        >>> cells = result_cells(Section(1024, None, None, (row,)), metric)[0]
        >>> cells.value, cells.seeds, cells.verdict
        ('91.0%', '1 of 2 diverged', '')
    """

    method: str
    role: str
    batch: str
    rate: str
    alpha: str
    parameter: str
    at_edge: bool
    best: bool
    updates: str
    seconds: str
    value: str
    seeds: str
    difference: str
    test_error: str
    share: str
    verdict: str
    notes: Sequence[str]
    offset: str
    published: str
    published_source: str


def result_cells(section: Section, metric: Metric) -> list[Cells]:
    """The rows of one large batch size, written out.

    Example:
        >>> result_cells(Section(9, None, None, ()), Metric("mse", False, 2))
        []
    """
    return [_cells(row, section, metric) for row in section.all_rows]


def _cells(row: Row, section: Section, metric: Metric) -> Cells:
    return Cells(
        method=row.method,
        role=role(row),
        batch=count(row.batch_size),
        rate=_settings(row, "lr"),
        alpha=_settings(row, "alpha"),
        parameter=row.parameter,
        at_edge=row.at_edge,
        best=row.best_on_validation,
        updates=_mean(row, "updates", count),
        seconds=_mean(row, "seconds", brief),
        value=_value(row, metric),
        seeds=seeds(row),
        difference=_difference(row.difference, metric),
        test_error=f"±{row.test_error:.1f}" if row.test_error is not None else DASH,
        share=_share(row.share),
        verdict=row.verdict,
        notes=_notes(row, section),
        offset=_mean(row, "offset_to_weight_norm", brief),
        published=_published(row, metric),
        published_source="; ".join(str(p.get("source", "")) for p in row.published),
    )


def seeds(row: Row) -> str:
    """How many seeds stand behind a row, and what became of the others.

    Example:
        >>> seeds(Row("sngm", 9, "method", (), {0: 1.0, 1: None}, expected=3))
        '1 of 2 diverged; 1 unfinished'
    """
    said = diverged(row).replace(" seeds", "") or str(len(row.finished))
    return said + (f"; {row.unfinished} unfinished" if row.unfinished else "")


def _settings(row: Row, key: str) -> str:
    return " / ".join(map(brief, row.settings(key))) or DASH


def _mean(row: Row, key: str, write: Callable[[float], str]) -> str:
    value = row.mean_result(key)
    return DASH if value is None else write(value)


def _value(row: Row, metric: Metric) -> str:
    e = row.estimate
    if e is None:
        return "diverged" if row.diverged else DASH
    return metric.value(e.mean) + (f" ± {metric.plain(e.sd)}" if e.sd is not None else "")


def _difference(difference: Estimate | None, metric: Metric) -> str:
    if difference is None:
        return DASH
    said = metric.signed(difference.mean)
    if difference.low is None or difference.high is None:
        return said
    return f"{said} [{metric.signed(difference.low)}, {metric.signed(difference.high)}]"


def _share(share: Share | None) -> str:
    if share is None:
        return DASH
    return f"{percent(share.value)} [{percent(share.low)}, {percent(share.high)}]"


def _notes(row: Row, section: Section) -> list[str]:
    notes = []
    if row.difference is not None:
        pairs = row.difference.n
        if pairs < SEEDS_FOR_A_VERDICT:
            notes.append(
                f"no verdict: {pairs} of the {SEEDS_FOR_A_VERDICT} pairs of seeds it takes"
            )
        elif pairs < row.expected:
            notes.append(f"over the {pairs} pairs of seeds that both finished")
        found = row.verdict in ("better", "worse")
        if found and row.test_error and abs(row.difference.mean) < 2 * row.test_error:
            notes.append("smaller than twice the test set’s error")
        if found and row.role in ("method", "control") and not row.survives_bonferroni:
            notes.append("not after Bonferroni’s correction")
    if row is section.baseline:
        notes.append("what the others are compared with")
    return notes


def _published(row: Row, metric: Metric) -> str:
    values = (p.get("value") for p in row.published)
    return ", ".join(metric.value(float(v)) for v in values if v is not None) or DASH
