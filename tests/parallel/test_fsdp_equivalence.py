"""Workers over FSDP2 end where the same workers end in one process: weights and buffers."""

import functools
import sys

import pytest
import torch
from every_method import NOISES, PERTURBATIONS, ROWS, RULES, Row

import largebatch as lb

# FSDP2 has no second backward pass, and refuses what asks for one.
SHARDED = [name for name in PERTURBATIONS if name != "eigen"]
WHOLE = ("SGD", "SNGM", "LARS", "CLARS")  # with every perturbation; the others with GNC


class ByDifferences(lb.CBLR):
    """Looks at the loss as it does on FSDP2."""

    def refresh(self, fn, *batch, **more):
        super().refresh(fn, *batch, method="differences", **more)


def compare(row: Row, count: int, kind: str, *, cut: bool) -> None:
    import meshes
    import replicas

    # Batch norm's statistics are of what one process sees.
    model = replicas.network(norm=not cut)
    more = {"gradient_noise": row.noise, "cut": cut, "model": model}
    ours = meshes.run_over(kind, row.rule, row.perturb, count, **more).run()
    theirs = simulated(row, count * ours.ranks, cut=cut)
    replicas.assert_same(ours, theirs)
    replicas.assert_replicas_are_identical(ours)
    if row.perturb is None:
        return
    assert theirs.offsets > 0.01
    assert replicas.distance(theirs, simulated(row.without(), theirs.count, cut=cut)) > 1e-3
    if ours.rank == 0:  # of the step's first worker
        torch.testing.assert_close(ours.offsets, theirs.offsets, rtol=1e-5, atol=0)


@functools.cache
def simulated(row: Row, workers: int, *, cut: bool):
    import replicas

    rule = row.rule
    if rule.keywords.get("diagonal") == "hessian":
        rule = functools.partial(ByDifferences, **rule.keywords)
    more = {"gradient_noise": row.noise, "model": replicas.network(norm=not cut)}
    return replicas.Run(rule, row.perturb, workers, over=False, **more).run()


def refuse_exact(kind: str) -> None:
    import meshes

    run = meshes.run_over(kind, ROWS["eigen"].rule, ROWS["eigen"].perturb, 2)
    with pytest.raises(ValueError, match="FSDP2's are reached by method='differences' only"):
        run.step(0)


def every(rules, perturbations=(None, *SHARDED)) -> dict[str, Row]:
    return {
        f"{p or 'none'}-{r}": Row(p and PERTURBATIONS[p], RULES[r][0])
        for p in perturbations
        for r in rules
    }


# Rules and noises that are not tried with every perturbation.
FURTHER = {
    **{f"GNC-{rule}": ROWS[rule] for rule in RULES if rule not in WHOLE},
    **{f"{noise}-SGD": ROWS[noise] for noise in NOISES},
}


def cases(kind: str, rows: dict[str, Row], counts, seen=("cut", "copied")) -> dict:
    return {
        f"{name}-{count}-{kind}-{each}": functools.partial(
            compare, row, count, kind, cut=each == "cut"
        )
        for name, row in rows.items()
        for count in counts
        for each in seen
    }


EVERY = {
    **cases("replicas", every(WHOLE), [2], ["copied"]),
    **cases("replicas", every(["SGD"]), [1], ["copied"]),
    **cases("shards", every(WHOLE), [4], ["cut"]),
    **cases("shards", every(["SGD"]), [4], ["copied"]),
    **cases("replicas", FURTHER, [2], ["cut"]),
    **cases("shards", FURTHER, [4], ["cut"]),
    "eigen-refused-shards": functools.partial(refuse_exact, "shards"),
}
FOUR = {
    **cases("both", every(["CLARS"]), [1]),
    **cases("both", every(["SGD"], [None, "GNC", "permuted"]), [2]),
    **cases("both", every(["SGD", "SNGM", "LARS"], ["GNC"]), [1], ["cut"]),
    **cases("both", FURTHER, [1], ["cut"]),
    "eigen-refused-both": functools.partial(refuse_exact, "both"),
}
QUICK = [
    "GNC-SGD-2-replicas-copied",
    "GNC-SGD-4-shards-copied",
    *(f"{p}-CLARS-4-shards-cut" for p in ("RNC", "m-SAM", "permuted", "isotropic")),
    "eigen-refused-shards",
]
REST = [name for name in EVERY if name not in QUICK]


@pytest.mark.parametrize("case", QUICK)
def test_replicas_end_where_one_process_does(case, outcomes):
    # Red: gradients of the sum over replicas taken for a worker's own, a draw for the piece in
    # place of the whole, a norm over the piece alone, weights gathered before they were moved.
    outcomes(case, "quick")


@pytest.mark.slow
@pytest.mark.parametrize("case", REST)
def test_so_they_do_with_every_rule(case, outcomes):
    outcomes(case, "rest")


@pytest.mark.slow
@pytest.mark.parametrize("case", FOUR)
def test_replicas_in_pieces_do(case, outcomes):
    outcomes(case, "four", processes=4)


if __name__ == "__main__":
    import replicas

    quick, rest = ({name: EVERY[name] for name in names} for names in (QUICK, REST))
    replicas.main({"quick": quick, "rest": rest, "four": FOUR}[sys.argv[4]])
