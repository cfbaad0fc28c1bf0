"""Workers over FSDP2 end where the same workers end in one process: weights and buffers."""

import functools
import sys

import pytest
import torch

import largebatch as lb

PERTURBATIONS = {
    "none": None,
    "GNC": lb.GNC(alpha=1.0),
    "GNC-plain": lb.GNC(alpha=2.0, scaling="plain"),
    "RNC": lb.RNC(alpha=0.5),
    "SAM": lb.SAM(rho=0.1),
    "m-SAM": lb.SAM(rho=0.1, per_worker=True),
    "permuted": lb.MatchedNoise(alpha=1.0),
    "isotropic": lb.MatchedNoise(alpha=1.0, kind="isotropic"),
    "eigen": lb.EigenNoise(rho=0.1, k=1, method="differences"),
    "extrapolation": lb.Extrapolation(inner_lr=0.3),
    "past": lb.Extrapolation(inner_lr=0.3, kind="past"),
    "noise": lb.Extrapolation(inner_lr=0.02, kind="noise"),
    "switch": lb.Switch(lb.GNC(alpha=1.0), lb.RNC(alpha=0.5), at_step=10),
}
RULES = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "SNGM": lambda p: lb.SNGM(p, lr=0.1, weight_decay=1e-3),
    "LARS": lambda p: lb.LARS(p, lr=0.5, trust_coefficient=0.1, weight_decay=1e-3),
    "CLARS": lambda p: lb.CLARS(p, lr=0.5, trust_coefficient=0.1, cap=1.0, weight_decay=1e-3),
}


def compare(perturbation: str, rule: str, count: int, kind: str, *, cut: bool) -> None:
    import meshes
    import replicas

    perturb, optimizer = PERTURBATIONS[perturbation], RULES[rule]
    # Batch norm's statistics are of what one process sees.
    model = replicas.network(norm=not cut)
    ours = meshes.run_over(kind, optimizer, perturb, count, cut=cut, model=model).run()
    theirs = simulated(optimizer, perturb, count * ours.ranks, cut=cut)
    replicas.assert_same(ours, theirs)
    replicas.assert_replicas_are_identical(ours)
    if perturb is None:
        return
    assert theirs.offsets > 0.01
    assert replicas.distance(theirs, simulated(optimizer, None, theirs.count, cut=cut)) > 1e-3
    if ours.rank == 0:  # of the step's first worker
        torch.testing.assert_close(ours.offsets, theirs.offsets, rtol=1e-5, atol=0)


@functools.cache
def simulated(optimizer, perturb, workers: int, *, cut: bool):
    import replicas

    model = replicas.network(norm=not cut)
    return replicas.Run(optimizer, perturb, workers, over=False, model=model).run()


def cases(kind: str, rules, counts, perturbations=PERTURBATIONS, seen=("cut", "copied")) -> dict:
    return {
        f"{p}-{r}-{count}-{kind}-{each}": functools.partial(
            compare, p, r, count, kind, cut=each == "cut"
        )
        for p in perturbations
        for r in rules
        for count in counts
        for each in seen
    }


EVERY = {
    **cases("replicas", RULES, [1, 2], seen=["copied"]),
    **cases("shards", RULES, [4]),
}
FOUR = {**cases("both", ["CLARS"], [1]), **cases("both", ["SGD"], [2], ["none", "GNC", "permuted"])}
QUICK = [
    "GNC-SGD-2-replicas-copied",
    "GNC-SGD-4-shards-copied",
    *(f"{p}-CLARS-4-shards-cut" for p in ("RNC", "m-SAM", "permuted", "isotropic")),
]
REST = [name for name in EVERY if name not in QUICK]


def test_every_perturbation_is_compared():
    kinds = {
        each
        for each in vars(lb).values()
        if isinstance(each, type) and issubclass(each, lb.Perturbation) and each != lb.Perturbation
    }
    assert {type(each) for each in PERTURBATIONS.values() if each is not None} == kinds


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
