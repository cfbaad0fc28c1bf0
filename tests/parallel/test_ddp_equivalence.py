"""Workers over DDP end where the same workers end in one process: weights and buffers."""

import functools
import sys
from typing import Any

import pytest
from every_method import NOISES, PERTURBATIONS, ROWS, RULES, Row, steps_on_rounding

# With every perturbation; the others with GNC.
WHOLE = ("SGD", "SNGM", "LARS", "CLARS")

# A row and workers on each process.
EVERY = {
    **{
        f"{p}-{r}-{count}": (Row(PERTURBATIONS[p], RULES[r][0]), count)
        for p in PERTURBATIONS
        for r in WHOLE
        for count in (1, 2)
    },
    **{f"GNC-{rule}-2": (ROWS[rule], 2) for rule in RULES if rule not in WHOLE},
    **{f"{noise}-SGD-2": (ROWS[noise], 2) for noise in NOISES},
}
QUICK = [*(f"{p}-SGD-2" for p in PERTURBATIONS), "GNC-CLARS-1", "isotropic-CLARS-1"]
REST = [case for case in EVERY if case not in QUICK]


@functools.cache
def alone(row: Row, workers: int):
    import replicas

    return replicas.Run(row.rule, row.perturb, workers, over=False, **more(row)).run()


def more(row: Row) -> dict[str, Any]:
    import replicas

    # Without it each process shows its own examples to a rule that looks at the loss.
    norm = not steps_on_rounding(row) and "diagonal" not in row.rule.keywords
    model = replicas.network(norm=norm)
    return {"gradient_noise": row.noise, "model": model}


def compare(row: Row, count: int) -> None:
    import replicas

    ours = replicas.Run(row.rule, row.perturb, count, over=True, **more(row)).run()
    workers = count * ours.ranks
    theirs = alone(row, workers)
    assert theirs.offsets > 0.01
    assert replicas.distance(theirs, alone(row.without(), workers)) > 1e-3
    replicas.assert_same(ours, theirs)
    replicas.assert_replicas_are_identical(ours)


@pytest.mark.parametrize("case", QUICK)
def test_processes_end_where_one_process_does(case, outcomes):
    # Red: a worker numbered by its process alone, a mean over this process's workers only, rank
    # 0's running statistics, an earlier worker's gradient left out, noise of the reduced gradient.
    outcomes(case, "quick")


@pytest.mark.slow
@pytest.mark.parametrize("case", REST)
def test_so_they_do_with_every_rule(case, outcomes):
    outcomes(case, "rest")


@pytest.mark.slow
def test_four_processes_do(outcomes):
    outcomes("isotropic-CLARS-1", "four", processes=4)


if __name__ == "__main__":
    import replicas

    four = ["isotropic-CLARS-1"]
    chosen = {"quick": QUICK, "rest": REST, "four": four}[sys.argv[4]]
    replicas.main({name: functools.partial(compare, *EVERY[name]) for name in chosen})
