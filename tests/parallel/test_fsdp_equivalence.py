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
# Replicas and pieces of each. Over one dimension all processes are one replica.
MESHES = {"replicas": (2, 1), "shards": (1, 2), "both": (2, 2)}


@functools.cache
def mesh(kind: str):
    from torch.distributed.device_mesh import init_device_mesh

    replicas, pieces = MESHES[kind]
    if replicas == 1:
        return init_device_mesh("cpu", (pieces,))
    return init_device_mesh("cpu", (replicas, pieces), mesh_dim_names=("replicate", "shard"))


def sharded(kind: str, model, **options):
    from torch.distributed.fsdp import fully_shard

    for module in (model.first, model.last, model):
        fully_shard(module, mesh=mesh(kind), **options)
    return model


def run_over(kind: str, optimizer, perturb, count: int, model, *, apart: bool, **workers):
    """A Run over a mesh; each process sees its part of its worker's examples, or all of them."""
    import replicas

    wrap = functools.partial(sharded, kind)
    run = replicas.Run(optimizer, perturb, count, over=True, model=model, wrap=wrap, **workers)
    over, pieces = mesh(kind), MESHES[kind][1]
    run.ranks = over.size(0) if over.ndim == 2 else 1
    run.rank = over.get_local_rank(0) if over.ndim == 2 else 0
    if apart:
        run.pieces, run.piece = pieces, over.get_local_rank(over.ndim - 1)
    return run


def compare(perturbation: str, rule: str, count: int, kind: str, *, apart: bool, **workers) -> None:
    import replicas

    perturb, optimizer = PERTURBATIONS[perturbation], RULES[rule]
    # Batch norm's statistics are of what one process sees.
    model = replicas.network(norm=not apart)
    ours = run_over(kind, optimizer, perturb, count, model, apart=apart, **workers).run()
    theirs = simulated(optimizer, perturb, count * ours.ranks, apart=apart)
    replicas.assert_same(ours, theirs)
    replicas.assert_replicas_are_identical(ours)
    if perturb is None:
        return
    assert theirs.offsets > 0.01
    assert replicas.distance(theirs, simulated(optimizer, None, theirs.count, apart=apart)) > 1e-3
    if ours.rank == 0:  # of the step's first worker
        torch.testing.assert_close(ours.offsets, theirs.offsets, rtol=1e-5, atol=0)


@functools.cache
def simulated(optimizer, perturb, workers: int, *, apart: bool):
    import replicas

    model = replicas.network(norm=not apart)
    return replicas.Run(optimizer, perturb, workers, over=False, model=model).run()


def cases(kind: str, rules, counts, perturbations=PERTURBATIONS) -> dict:
    return {
        f"{p}-{r}-{count}-{kind}-{apart}": functools.partial(
            compare, p, r, count, kind, apart=apart == "cut"
        )
        for p in perturbations
        for r in rules
        for count in counts
        for apart in ("cut", "copied")
    }


EVERY = {
    **cases("replicas", RULES, [1, 2]),
    **cases("shards", RULES, [4]),
}
FOUR = {**cases("both", ["CLARS"], [1]), **cases("both", ["SGD"], [2], ["none", "GNC", "permuted"])}
QUICK = [
    *(f"{p}-SGD-2-replicas-copied" for p in ("none", "GNC", "SAM", "isotropic", "extrapolation")),
    *(f"{p}-CLARS-4-shards-cut" for p in ("GNC", "RNC", "m-SAM", "permuted", "eigen", "noise")),
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
