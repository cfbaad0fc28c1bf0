"""From runs to results: one row per method and batch size, one section per large batch size.

Headline, tables and pictures are all taken from here, so that they agree.
"""

import math
from collections.abc import Iterable

from largebatch.lab.report.judge import after_bonferroni, compare
from largebatch.lab.report.metric import Metric, metric_of
from largebatch.lab.report.read import Comparison, Record, Run, number
from largebatch.lab.report.row import BASELINE, LONGER, Row, Section

Key = tuple[str, int]


def metric_for(comparison: Comparison) -> Metric:
    """The comparison's metric, with digits that fit its spread over seeds.

    Example:
        >>> metric_for(Comparison({"task": "digits", "small_batch": 64}, (), (), ())).name
        'accuracy_percent'
    """
    question = comparison.question
    spreads = [
        e.sd for row in _rows(comparison).values() if (e := row.estimate) and e.sd is not None
    ]
    name = str(question.get("metric", "accuracy_percent"))
    return metric_of(name, bool(question.get("higher_is_better", True)), spreads)


def sections(comparison: Comparison) -> tuple[Section, ...]:
    """Every section, by batch size, with verdicts that know how many comparisons there are.

    Raises:
        ValueError: two finished final runs claim the same method, batch size and seed.

    Example:
        >>> question = {"task": "digits", "small_batch": 64, "batch_sizes": [1024]}
        >>> question["methods"] = ["msgd"]
        >>> [s.batch_size for s in sections(Comparison(question, (), (), ()))]
        [1024]
    """
    metric, rows = metric_for(comparison), _rows(comparison)
    sizes = comparison.large_batches
    if any(b == comparison.small_batch and m != BASELINE for m, b in rows):
        sizes = [comparison.small_batch, *sizes]
    found = [_section(size, rows, metric, comparison) for size in sizes]
    judged = sum(1 for section in found for row in section.methods if row.verdict)
    return tuple(after_bonferroni(section, judged) for section in found)


def _rows(comparison: Comparison) -> dict[Key, Row]:
    question, small = comparison.question, comparison.small_batch
    choices = {(str(c["method"]), int(c["batch_size"])): c for c in comparison.choices}
    asked = [(str(m), b) for b in comparison.large_batches for m in question.get("methods", ())]
    ran = [(run.method, run.batch_size) for run in comparison.final]
    keys = dict.fromkeys([(BASELINE, small), *asked, *choices, *ran])
    return {key: _row(key, choices.get(key, {}), comparison) for key in keys}


def _row(key: Key, choice: Record, comparison: Comparison) -> Row:
    method, size = key
    runs = _one_run_per_seed(r for r in comparison.final if (r.method, r.batch_size) == key)
    values = {run.seed: run.value for run in runs if run.status != "unfinished"}
    published = tuple(
        p
        for p in comparison.question.get("published", ())
        if p.get("method") == method and p.get("batch_size") == size
    )
    return Row(
        method,
        size,
        _role(method, size, comparison.small_batch),
        runs,
        values,
        len(comparison.seeds),
        choice,
        published,
    )


def _role(method: str, size: int, small: int) -> str:
    if method == BASELINE:
        return "reference" if size == small else "baseline"
    return "control" if method.endswith(LONGER) else "method"


def _one_run_per_seed(runs: Iterable[Run]) -> tuple[Run, ...]:
    """A finished run goes before an interrupted one; two finished ones contradict each other."""
    kept: dict[int, Run] = {}
    for run in runs:
        other = kept.get(run.seed)
        if other and "unfinished" not in (other.status, run.status):
            raise ValueError(
                f"final/{other.name} and final/{run.name} are both {run.method} at batch size "
                f"{run.batch_size} with seed {run.seed}: remove the one that does not belong here"
            )
        if other is None or other.status == "unfinished":
            kept[run.seed] = run
    return tuple(kept[seed] for seed in sorted(kept))


def _section(size: int, rows: dict[Key, Row], metric: Metric, comparison: Comparison) -> Section:
    small = comparison.small_batch
    reference = rows.get((BASELINE, small)) if size != small else None
    baseline = rows.get((BASELINE, size))
    examples = number(comparison.question.get("test_examples"))
    best = _best_on_validation((r for (_, b), r in rows.items() if b == size), metric)
    compared = {
        key: compare(row, reference, baseline, metric, examples, key in best)
        for key, row in rows.items()
        if key[1] == size or row is reference
    }
    methods = [r for (m, b), r in compared.items() if b == size and m != BASELINE]
    methods.sort(key=lambda r: -metric.sign * r.estimate.mean if r.estimate else math.inf)
    return Section(
        size,
        compared.get((BASELINE, small)) if reference else None,
        compared.get((BASELINE, size)),
        tuple(methods),
    )


def _best_on_validation(rows: Iterable[Row], metric: Metric) -> set[Key]:
    """The best of those with equal epochs: what trains longer is a control, not a method."""
    scores = {
        (row.method, row.batch_size): metric.sign * value
        for row in rows
        if row.role != "control" and (value := number(row.choice.get("validation"))) is not None
    }
    return {key for key, score in scores.items() if score == max(scores.values())}
