"""Holds one row against others: paired difference, recovered share, verdict, many comparisons."""

from dataclasses import replace

from largebatch.lab.report.metric import Metric
from largebatch.lab.report.row import Row, Section
from largebatch.lab.report.stats import (
    CONFIDENCE,
    SEEDS_FOR_A_VERDICT,
    Estimate,
    Share,
    binomial_error_points,
    common,
    paired_difference,
    recovered_share,
)


def compare(
    row: Row,
    reference: Row | None,
    baseline: Row | None,
    metric: Metric,
    examples: float | None,
    best: bool,
) -> Row:
    """The row beside its section's baseline: difference, share, verdict, the test set's error.

    Example:
        >>> base = Row("msgd", 9, "baseline", (), {s: 80.0 for s in range(5)})
        >>> row = Row("sngm", 9, "method", (), {s: 81.0 for s in range(5)})
        >>> compare(row, None, base, Metric("accuracy_percent", True, 1), 500, False).verdict
        'better'
    """
    difference = share = None
    if baseline and (row.method, row.batch_size) != (baseline.method, baseline.batch_size):
        difference = paired_difference(row.values, baseline.values)
        if reference and row is not reference:
            share = _share(row.values, baseline.values, reference.values, metric)
    error = None
    if metric.is_accuracy and examples and row.estimate:
        error = binomial_error_points(row.estimate.mean, int(examples))
    return replace(
        row,
        difference=difference,
        share=share,
        test_error=error,
        best_on_validation=best,
        verdict=verdict(difference, metric),
    )


def _share(
    values: dict[int, float | None],
    baseline: dict[int, float | None],
    reference: dict[int, float | None],
    metric: Metric,
) -> Share | None:
    seeds = common(values, baseline, reference)
    won = paired_values(values, baseline, seeds, metric.sign)
    return recovered_share(won, paired_values(reference, baseline, seeds, metric.sign))


def paired_values(
    a: dict[int, float | None], b: dict[int, float | None], seeds: list[int], sign: float
) -> list[float]:
    """What each seed gained in a over b.

    Example:
        >>> paired_values({0: 2.0}, {0: 3.0}, [0], -1.0)
        [1.0]
    """
    return [sign * (float(a[s] or 0.0) - float(b[s] or 0.0)) for s in seeds]


def verdict(difference: Estimate | None, metric: Metric) -> str:
    """Says "better", "worse" or "not distinguishable"; nothing under five pairs of seeds.

    Example:
        >>> m = Metric("mse", False, 2)
        >>> [verdict(Estimate(-1.0, 0.2, -1.2, -0.8, n), m) for n in (5, 4)]
        ['better', '']
    """
    if difference is None or difference.n < SEEDS_FOR_A_VERDICT:
        return ""
    if not difference.excludes_zero:
        return "not distinguishable"
    return "better" if metric.sign * difference.mean > 0 else "worse"


def after_bonferroni(section: Section, judged: int) -> Section:
    """The section, its methods' verdicts held against Bonferroni's correction for `judged`.

    Example:
        >>> base = Row("msgd", 9, "baseline", (), {s: 80.0 for s in range(5)})
        >>> row = Row("sngm", 9, "method", (), {s: 81.0 for s in range(5)}, verdict="better")
        >>> after_bonferroni(Section(9, None, base, (row,)), 20).methods[0].survives_bonferroni
        True
    """
    baseline = section.baseline
    if baseline is None or not judged:
        return section
    strict = 1 - (1 - CONFIDENCE) / judged
    methods = []
    for row in section.methods:
        difference = paired_difference(row.values, baseline.values, strict)
        survives = bool(row.verdict and difference and difference.excludes_zero)
        methods.append(replace(row, survives_bonferroni=survives))
    return replace(section, methods=tuple(methods))
