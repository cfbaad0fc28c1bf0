"""Workers over DDP end where the same workers end in one process: weights and buffers."""

import pytest
import torch

import largebatch as lb

PERTURBATIONS = {
    "GNC": lb.GNC(alpha=1.0),
    "GNC-plain": lb.GNC(alpha=2.0, scaling="plain"),
    "RNC": lb.RNC(alpha=0.5),
    "SAM": lb.SAM(rho=0.3),
    "m-SAM": lb.SAM(rho=0.3, per_worker=True),
    "permuted": lb.MatchedNoise(alpha=1.0),
    "isotropic": lb.MatchedNoise(alpha=1.0, kind="isotropic"),
    "eigen": lb.EigenNoise(rho=0.3, k=2),
    "eigen-differences": lb.EigenNoise(rho=0.3, k=2, method="differences"),
    "extrapolation": lb.Extrapolation(inner_lr=0.3),
    "past": lb.Extrapolation(inner_lr=0.3, kind="past"),
    "noise": lb.Extrapolation(inner_lr=0.02, kind="noise"),
    "switch": lb.Switch(lb.GNC(alpha=1.0), lb.RNC(alpha=0.5), at_step=10),
}
RULES = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "SNGM": lambda p: lb.SNGM(p, lr=0.1, weight_decay=1e-3),
    "LARS": lambda p: lb.LARS(p, lr=0.5, trust_coefficient=0.1, weight_decay=1e-3),
    "CLARS": lambda p: lb.CLARS(p, lr=0.5, trust_coefficient=0.1, cap=None, weight_decay=1e-3),
}
# The rate of a layer-wise rule's layers is the global one times their scale.
LOUDER = {"SNGM": 3.0, "LARS": 3.0, "CLARS": 3.0}


def compare(perturbation: str, rule: str, count: int) -> None:
    import replicas

    perturb, optimizer = PERTURBATIONS[perturbation], RULES[rule]
    ours = replicas.Run(optimizer, perturb, count, over=True).run()
    theirs = replicas.Run(optimizer, perturb, 2 * count, over=False).run()
    replicas.assert_same(ours, theirs)
    replicas.assert_replicas_are_identical(ours)
    plain = replicas.Run(optimizer, None, 2 * count, over=False).run()
    print(perturbation, rule, float(theirs.offsets), replicas.distance(theirs, plain), flush=True)
    assert theirs.offsets > 0.01
    assert replicas.distance(theirs, plain) > 1e-3


CASES = {
    f"{p}-{r}-{count}": (p, r, count) for p in PERTURBATIONS for r in RULES for count in (1, 2)
}


@pytest.mark.parametrize("case", CASES)
def test_processes_end_where_one_process_does(case, outcomes):
    outcomes(case)


if __name__ == "__main__":
    import replicas

    replicas.main({name: (lambda a=a: compare(*a)) for name, a in CASES.items()})
