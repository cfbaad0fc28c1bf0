"""Workers over DDP end where the same workers end in one process: weights and buffers."""

import functools
import sys

import pytest
import torch

import largebatch as lb

PERTURBATIONS = {
    "GNC": lb.GNC(alpha=1.0),
    "GNC-plain": lb.GNC(alpha=2.0, scaling="plain"),
    "RNC": lb.RNC(alpha=0.5),
    "SAM": lb.SAM(rho=0.1),
    "m-SAM": lb.SAM(rho=0.1, per_worker=True),
    "permuted": lb.MatchedNoise(alpha=1.0),
    "isotropic": lb.MatchedNoise(alpha=1.0, kind="isotropic"),
    "eigen": lb.EigenNoise(rho=0.1, k=1),
    "eigen-differences": lb.EigenNoise(rho=0.1, k=1, method="differences"),
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

# Perturbation, rule, workers on each process.
EVERY = {
    (p, r, count): f"{p}-{r}-{count}" for p in PERTURBATIONS for r in RULES for count in (1, 2)
}
QUICK = {
    case: name
    for case, name in EVERY.items()
    if case[1:] == ("SGD", 2) or (case[0] in ("GNC", "isotropic") and case[1:] == ("CLARS", 1))
}
REST = {case: name for case, name in EVERY.items() if case not in QUICK}


@functools.cache
def plain(rule: str, workers: int):
    import replicas

    return replicas.Run(RULES[rule], None, workers, over=False).run()


def compare(perturbation: str, rule: str, count: int) -> None:
    import replicas

    perturb, optimizer = PERTURBATIONS[perturbation], RULES[rule]
    ours = replicas.Run(optimizer, perturb, count, over=True).run()
    workers = count * ours.ranks
    theirs = replicas.Run(optimizer, perturb, workers, over=False).run()
    assert theirs.offsets > 0.01
    assert replicas.distance(theirs, plain(rule, workers)) > 1e-3
    replicas.assert_same(ours, theirs)
    replicas.assert_replicas_are_identical(ours)


def test_every_perturbation_is_compared():
    kinds = {
        each
        for each in vars(lb).values()
        if isinstance(each, type) and issubclass(each, lb.Perturbation) and each != lb.Perturbation
    }
    assert {type(each) for each in PERTURBATIONS.values()} == kinds


@pytest.mark.parametrize("case", QUICK.values())
def test_processes_end_where_one_process_does(case, outcomes):
    # Red: a worker numbered by its process alone, a mean over this process's workers only, rank
    # 0's running statistics, an earlier worker's gradient left out, noise of the reduced gradient.
    outcomes(case, "quick")


@pytest.mark.slow
@pytest.mark.parametrize("case", REST.values())
def test_so_they_do_with_every_rule(case, outcomes):
    outcomes(case, "rest")


@pytest.mark.slow
def test_four_processes_do(outcomes):
    outcomes("isotropic-CLARS-1", "four", processes=4)


if __name__ == "__main__":
    import replicas

    four = {case: name for case, name in EVERY.items() if name == "isotropic-CLARS-1"}
    chosen = {"quick": QUICK, "rest": REST, "four": four}[sys.argv[4]]
    replicas.main({name: functools.partial(compare, *case) for case, name in chosen.items()})
