"""Workers over FSDP2: what is refused by name, and what other things in a loop do not disturb."""

import copy
import functools
import math
import sys
import warnings
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import largebatch as lb

GNC = lb.GNC(alpha=1.0)
RNC = lb.RNC(alpha=0.5)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def small(kind="replicas", model=None, **options):
    import meshes
    from torch.distributed.fsdp import fully_shard

    return fully_shard(plain() if model is None else model, mesh=meshes.mesh(kind), **options)


def make(model, perturb=GNC, count=1, **more):
    own = [p for p in model.parameters() if p.requires_grad]
    return lb.Workers(model, sgd(own), perturb, count=count, **more)


def examples(size=4):
    return torch.randn(size, 3, dtype=torch.float64)


def mean_square(model):
    return lambda x: model(x).square().mean()


def refuses_too_few_workers():
    with pytest.raises(ValueError, match="one-dimensional FSDP mesh run each worker together"):
        make(small("shards"))
    make(small("shards"), count=2)
    make(small("replicas"))


def refuses_what_is_sharded_later():
    import meshes
    from torch.distributed.fsdp import fully_shard

    model = plain()
    workers = make(model, count=2)
    fully_shard(model, mesh=meshes.mesh("shards"))
    with pytest.raises(TypeError, match="fully_shard was applied after Workers was made"):
        workers.backward(mean_square(model), examples())


def refuses_an_optimizer_of_before():
    import meshes
    from torch.distributed.fsdp import fully_shard

    model = plain()
    optimizer = sgd(model.parameters())
    fully_shard(model, mesh=meshes.mesh("shards"))
    with pytest.raises(ValueError, match="holds none of the model's parameters"):
        lb.Workers(model, optimizer, GNC, count=2)


def refuses_a_part_that_is_sharded():
    model = plain()
    small("shards", model[0])
    with pytest.raises(TypeError, match="applied to '0', but not to the model itself"):
        make(model, count=2)


def refuses_what_is_left_out():
    model = plain()
    small("shards", model, ignored_params={model[0].bias})
    with pytest.raises(TypeError, match=r"'0\.bias' is in training, but not sharded"):
        make(model, count=2)
    model[0].bias.requires_grad_(False)
    make(model, count=2).backward(mean_square(model), examples())


def refuses_other_reductions():
    model = small()
    model.set_all_reduce_hook(lambda gradient: None)
    with pytest.raises(TypeError, match="set_all_reduce_hook was called on 'the model'"):
        make(model)
    model = plain()
    small(model=model[0]).set_gradient_divide_factor(1.0)
    small(model=model)
    with pytest.raises(TypeError, match="set_gradient_divide_factor was called on '0'"):
        make(model)


def refuses_larger_meshes():
    import meshes
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    over = meshes.mesh("replicas")
    make(fully_shard(plain(), mesh=over["replicate"]), count=2)  # the other dimension has one
    model = fully_shard(plain(), mesh=over["shard"])
    with pytest.raises(TypeError, match="over a mesh of its own, of shards or of replicas by"):
        make(model, count=2)
    model = parallelize_module(plain(), over["replicate"], {"0": ColwiseParallel()})
    with pytest.raises(TypeError, match=r"'0\.weight' is a DTensor of tensor, pipeline or context"):
        make(model, count=2)


def refuses_a_perturbation_that_takes_pieces_for_wholes():
    @dataclass(frozen=True)
    class Unaware(lb.Perturbation):
        def offsets(self, point, worker, memory):
            return [w / w.norm() for w in point.weights]

    with pytest.raises(TypeError, match="Unaware does not say that it works on pieces"):
        make(small("shards"), Unaware(), count=2)
    model = small("replicas")  # whole weights on each
    make(model, Unaware()).backward(mean_square(model), examples())


def disagreement_on_the_count_is_named():
    import torch.distributed as dist

    model = small()
    workers = make(model, count=2 + dist.get_rank())
    with pytest.raises(RuntimeError, match="disagree on the count: rank 0 has 2, rank 1 has 3"):
        workers.backward(mean_square(model), examples(6))


def short_groups(ran, say):
    """So many workers on each replica of up to two: the mean is over those that ran."""
    import torch.distributed as dist

    rank = dist.get_rank()
    model, alone = small(), plain()
    workers = make(model, count=2)
    torch.manual_seed(1)
    whole = examples(16).view(2, 2, 4, 3)
    for step in range(3):
        # The first step must run everywhere: from it messages follow.
        now = ran if step else (1, 1)
        seen = [whole[r, i] for r in range(2) for i in range(now[r])]
        wanted = [torch.autograd.grad(mean_square(alone)(x), [*alone.parameters()]) for x in seen]
        for i in range(now[rank]):
            with workers.next(last=i == now[rank] - 1 if say else None):
                mean_square(model)(whole[rank, i]).backward()
        workers.combine()
        if step == 0:
            workers._passes.forget()
            workers._passes.memory = None  # so that the next step is unperturbed too
            continue
        if step == 1:
            for j, p in enumerate(model.parameters()):
                mean = torch.stack([w[j] for w in wanted]).mean(0)
                torch.testing.assert_close(p.grad.full_tensor(), mean)


def nobody_ran_in_the_first_step():
    workers = make(small(), count=2)
    with pytest.raises(RuntimeError, match="before any worker has run on this replica"):
        workers.combine()


def two_backwards():
    model = small()
    workers = make(model)

    def twice():
        with workers.next():
            for _ in range(2):
                mean_square(model)(examples()).backward()

    with pytest.raises(RuntimeError, match="a second backward pass in one worker's"):
        twice()


def looks_in_between(reshard, kind):
    """A forward pass between steps leaves gathered weights behind, which no worker may use."""
    import meshes
    import replicas

    wrap = functools.partial(meshes.sharded, reshard_after_forward=reshard)
    count = 4 if kind == "shards" else 2
    ours = meshes.run_over(kind, sgd, RNC, count, wrap=wrap)
    theirs = replicas.Run(sgd, RNC, 4, over=False)
    for step in range(4):
        for run in (ours, theirs):
            run.model.eval()
            with torch.no_grad():
                run.loss(*run.batch(step))
            run.model.train()
            run.step(step)
            found = run.loss(*run.batch(step))  # with a graph, at clean weights
            run.last = found.detach()
    torch.testing.assert_close(ours.last, theirs.last, rtol=1e-9, atol=0)
    replicas.assert_same(ours, theirs)


def a_failure_in_a_pass_can_be_mended(kind):
    """In a pass before the step's last, on every process."""
    import meshes
    import replicas

    count = 4 if kind == "shards" else 2
    ours = meshes.run_over(kind, sgd, GNC, count)
    theirs = replicas.Run(sgd, GNC, 4, over=False)
    for step in range(6):
        # Theirs waits at the same weights for the comparison of losses.
        for run in (ours, theirs):
            for i, (x, y) in enumerate(run.workers.shards(*run.mine(*run.batch(step)))):
                before = copy.deepcopy(run.state())
                if run is ours and i == step % 2:
                    fail(run, x, y)
                    same_loss(ours, theirs, step)
                    assert all(torch.equal(v, before[k]) for k, v in run.state().items())
                with run.workers.next():
                    run.loss(x, y).backward()
            run.workers.combine()
            run.optimizer.step()
    replicas.assert_same(ours, theirs)


def same_loss(ours, theirs, step):
    """At the weights as FSDP gathers them now."""
    found = []
    for run in (ours, theirs):
        run.model.eval()
        with torch.no_grad():
            found.append(run.loss(*theirs.batch(step)))
        run.model.train()
    torch.testing.assert_close(*found, rtol=1e-9, atol=0)


def fail(run, x, y):
    """After a forward pass, and in the middle of one."""

    def pass_(then):
        with run.workers.next():
            run.loss(x, y)
            then()

    with pytest.raises(ZeroDivisionError):
        pass_(lambda: 1 / 0)
    handle = run.module.last.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pass_(lambda: None)
    handle.remove()


def a_resumed_run_is_the_uninterrupted_one(kind):
    import meshes

    count = 4 if kind == "shards" else 2
    whole = meshes.run_over(kind, sgd, GNC, count, cut=False).run(4)
    kept = copy.deepcopy(
        (whole.module.state_dict(), whole.optimizer.state_dict(), whole.workers.state_dict())
    )
    other = meshes.run_over(kind, sgd, GNC, count)
    for part, state in zip((other.module, other.optimizer, other.workers), kept, strict=True):
        part.load_state_dict(state)
    for run in (whole, other):
        for step in range(4, 7):
            run.step(step)
    for name, each in whole.state().items():
        assert torch.equal(each, other.state()[name])


def another_processes_state_starts_from_zero_everywhere(kind):
    import meshes
    import torch.distributed as dist

    run = meshes.run_over(kind, sgd, GNC, 2).run(2)
    states = [None, None]
    dist.all_gather_object(states, run.workers.state_dict())
    first = dist.get_rank() == 0
    flaw = "another process's state" if first else "the state is of the process of rank 0"
    with pytest.warns(UserWarning, match=flaw):
        run.workers.load_state_dict(states[0])
    assert not run.workers.state_dict()["slots"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.workers.load_state_dict(states[dist.get_rank()])
    assert run.workers.state_dict()["slots"]
    run.step(2)


def noise_is_kept_in_pieces():
    """count x parameters / pieces, to the byte where rows divide evenly."""
    import meshes

    sizes = {}
    for kind in ("replicas", "shards"):
        run = meshes.run_over(kind, sgd, GNC, 2).run(1)
        kept = sum(slot.nbytes for slot in run.workers.state_dict()["slots"])
        assert kept == run.workers.bytes_needed
        trained = [p for p in run.module.parameters() if p.requires_grad]
        sizes[kind] = kept
    # The last layer has three rows, the others an even number of them.
    rows = [(p.shape[0], math.prod(p.shape[1:])) for p in trained]
    mine = sum(len(range(3)[: math.ceil(3 / 2)]) * w if n == 3 else n * w // 2 for n, w in rows)
    assert sizes["replicas"] == 2 * 8 * sum(n * w for n, w in rows)
    if torch.distributed.get_rank() == 0:
        assert sizes["shards"] == 2 * 8 * mine


def filters_that_are_cut(perturb):
    """Over dimension 1, so that a filter lies on both processes."""
    import meshes
    import replicas
    from torch.distributed.tensor import Shard

    def place(parameter):
        even = parameter.ndim > 1 and parameter.shape[1] % 2 == 0
        return Shard(1) if even else None

    wrap = functools.partial(meshes.sharded, shard_placement_fn=place)
    model = replicas.network(norm=False)
    ours = meshes.run_over("shards", sgd, perturb, 4, cut=True, model=model, wrap=wrap)
    model = replicas.network(norm=False)
    theirs = replicas.Run(sgd, perturb, 4, over=False, model=model)
    assert any(p.placements == (Shard(1),) for p in ours.module.parameters())
    replicas.assert_same(ours.run(8), theirs.run(8))
    assert theirs.offsets > 0.01


def what_overflows_in_one_piece_counts_on_all(perturb):
    """Rows of a weight lie on different processes, and only the first one's gradient is inf."""
    model = small("shards", nn.Linear(3, 2, bias=False).double())
    optimizer = sgd(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    workers = lb.Workers(model, optimizer, perturb, count=2, scaler=scaler)
    before = model.weight.full_tensor().clone()

    def loss(x):
        return (model(x) * torch.tensor([1e300, 1.0])).mean() * 1e10

    workers.backward(loss, examples())
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(model.weight.full_tensor(), before)
    assert scaler.get_scale() == 1.0
    assert not any(slot.any() for slot in workers.state_dict()["slots"])
    workers.backward(lambda x: model(x).square().mean(), examples())
    scaler.step(optimizer)
    scaler.update()
    assert not torch.equal(model.weight.full_tensor(), before)


def weights_that_came_late():
    """Loaded in place of the first ones, before FSDP has looked at them; rows in uneven pieces."""
    ours, theirs = (nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)) for _ in range(2))
    theirs.double().load_state_dict(ours.double().state_dict())
    small("shards", ours)
    ours.load_state_dict({k: v.clone() for k, v in ours.state_dict().items()}, assign=True)
    torch.manual_seed(1)
    x = examples(8)
    for model in (ours, theirs):
        workers = make(model, RNC, count=2)
        workers.backward(lambda x, model=model: model(x).square().mean(), x)
        # Back at the clean weights, from which the gradient is taken next.
        workers.backward(lambda x, model=model: model(x).square().mean(), x)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad.full_tensor(), b.grad)
        assert torch.equal(a.full_tensor(), b)


def mixed_precision():
    """FSDP's own loop with half-precision weights is what unperturbed workers reproduce."""
    import meshes
    import replicas
    from torch.distributed.fsdp import MixedPrecisionPolicy

    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    wrap = functools.partial(meshes.sharded, mp_policy=policy)

    def run(perturb):
        model = replicas.network(torch.float32, norm=False)
        return meshes.run_over("replicas", sgd, perturb, 1, model=model, wrap=wrap)

    ours, theirs, perturbed = run(None), run(None), run(lb.GNC(alpha=5.0))
    for step in range(6):
        ours.step(step)
        perturbed.step(step)
        theirs.optimizer.zero_grad()
        theirs.loss(*theirs.mine(*theirs.batch(step))).backward()
        theirs.optimizer.step()
    replicas.assert_same(ours, theirs, bound=1e-6)
    assert perturbed.offsets > 0.01
    assert replicas.distance(perturbed, theirs) > 1e-3
    replicas.assert_replicas_are_identical(perturbed)


def weights_of_a_worker_are_agreed_on():
    """Processes that run a worker together may count different numbers of tokens."""
    import meshes
    import replicas

    runs = [meshes.run_over("shards", sgd, GNC, 2) for _ in range(2)]
    rank = torch.distributed.get_rank()
    for run, by_rank in zip(runs, ([[1.0, 4.0], [3.0, 8.0]], [[2.0, 6.0]] * 2), strict=True):
        for step in range(4):
            shards = run.workers.shards(*run.mine(*run.batch(step)))
            for weight, (x, y) in zip(by_rank[rank], shards, strict=True):
                with run.workers.next(weight=weight):
                    run.loss(x, y).backward()
            run.workers.combine()
            run.optimizer.step()
    replicas.assert_same(*runs)


CUT = {"GNC": GNC, "RNC": RNC, "plain RNC": lb.RNC(alpha=0.1, scaling="plain"), "SAM": lb.SAM(0.1)}
CUT |= {kind: lb.MatchedNoise(1.0, kind) for kind in ("permuted", "isotropic")}
CUT |= {f"{kind}, plain": lb.MatchedNoise(2.0, kind, "plain") for kind in ("permuted", "isotropic")}
CASES = {
    "too few": refuses_too_few_workers,
    "later": refuses_what_is_sharded_later,
    "optimizer": refuses_an_optimizer_of_before,
    "part": refuses_a_part_that_is_sharded,
    "left out": refuses_what_is_left_out,
    "reductions": refuses_other_reductions,
    "meshes": refuses_larger_meshes,
    "unaware": refuses_a_perturbation_that_takes_pieces_for_wholes,
    "count": disagreement_on_the_count_is_named,
    **{
        f"short {ran}{' said' if say else ''}": functools.partial(short_groups, ran, say)
        for ran in ((1, 1), (2, 1), (1, 2), (2, 0), (0, 1))
        for say in (False, True)
    },
    "nobody": nobody_ran_in_the_first_step,
    "two backwards": two_backwards,
    **{
        f"looks, {kind}, {reshard}": functools.partial(looks_in_between, reshard, kind)
        for kind in ("replicas", "shards")
        for reshard in (None, True, False)
    },
    "pieces": noise_is_kept_in_pieces,
    **{f"cut, {name}": functools.partial(filters_that_are_cut, CUT[name]) for name in CUT},
    "mixed precision": mixed_precision,
    **{
        f"overflow, {name}": functools.partial(what_overflows_in_one_piece_counts_on_all, perturb)
        for name, perturb in (("GNC", GNC), ("SAM", lb.SAM()), ("m-SAM", lb.SAM(per_worker=True)))
    },
    "assigned": weights_that_came_late,
    "weights": weights_of_a_worker_are_agreed_on,
    **{
        f"{name}, {kind}": functools.partial(case, kind)
        for kind in ("replicas", "shards")
        for name, case in (
            ("failure", a_failure_in_a_pass_can_be_mended),
            ("resume", a_resumed_run_is_the_uninterrupted_one),
            ("others' state", another_processes_state_starts_from_zero_everywhere),
        )
    },
}


@pytest.mark.parametrize("case", CASES)
def test_over_two_processes(case, outcomes):
    outcomes(case, "agreed")


if __name__ == "__main__":
    import replicas

    assert sys.argv[4] == "agreed"
    replicas.main(CASES)
