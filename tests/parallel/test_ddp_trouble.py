"""What Workers over DDP refuses by name, and what it makes of processes that do not agree."""

import copy
import functools
import sys
import warnings
from datetime import timedelta

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch.parallel.waiting import WaitedInVain

GNC = lb.GNC(alpha=1.0)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def make(model, perturb=GNC, count=1, **more):
    own = [p for p in model.parameters() if p.requires_grad]
    return lb.Workers(model, sgd(own), perturb, count=count, **more)


def small(**options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return nn.parallel.DistributedDataParallel(model.double(), **options)


class Spare(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()

    def forward(self, x):
        return self.used(x)


def examples(size=4):
    return torch.randn(size, 3, dtype=torch.float64)


def mean_square(model):
    return lambda x: model(x).square().mean()


def refuses_a_second_workers():
    model = small()
    first = make(model)
    with pytest.raises(ValueError, match="already has Workers: use those, or delete"):
        make(model)
    first.backward(mean_square(model), examples())
    del first
    make(model).backward(mean_square(model), examples())


def a_copy_of_the_model_may_have_its_own():
    model = small()
    workers = make(model)
    workers.backward(mean_square(model), examples())
    other = copy.deepcopy(model)
    make(other).backward(mean_square(other), examples())
    workers.backward(mean_square(model), examples())


def refuses_other_hooks():
    import torch.distributed as dist
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

    model = small()
    model.register_comm_hook(None, fp16_compress_hook)
    with pytest.raises(TypeError, match="communication hook 'fp16_compress_hook'"):
        make(model)
    model = small()
    model._register_builtin_comm_hook(dist.BuiltinCommHookType.FP16_COMPRESS)
    with pytest.raises(TypeError, match=r"communication hook '.*FP16_COMPRESS'"):
        make(model)


def refuses_options():
    with pytest.raises(ValueError, match=r"static_graph=True reduces every .* step has 2"):
        make(small(static_graph=True), count=2)
    with pytest.raises(ValueError, match=r"static_graph=True reduces every .* step has 2"):
        make(small(static_graph=True), lb.SAM())
    if torch.__version__ >= "2.15":
        with pytest.raises(TypeError, match="with skip_all_reduce_unused_params does not work"):
            make(small(skip_all_reduce_unused_params=True, find_unused_parameters=True))
    with pytest.raises(ValueError, match=r"under DistributedDataParallel pass the wrapped model"):
        make(small().module)


def refuses_a_model_of_a_larger_mesh():
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cpu", (2, 1), mesh_dim_names=("data", "tensor"))
    with pytest.raises(TypeError, match="device_mesh of several dimensions"):
        make(small(device_mesh=mesh["data"]))
    model = small(device_mesh=init_device_mesh("cpu", (2,)))
    make(model).backward(mean_square(model), examples())


def refuses_a_model_wrapped_later():
    plain = nn.Linear(3, 2).double()
    workers = make(plain, count=2)
    model = nn.parallel.DistributedDataParallel(plain)
    with pytest.raises(TypeError, match="wrapped in DistributedDataParallel after Workers"):
        workers.backward(mean_square(model), examples())
    workers.backward(mean_square(plain), examples())
    plain = nn.Linear(3, 2).double()
    workers = make(plain, count=2)
    workers.backward(mean_square(plain), examples())
    model = nn.parallel.DistributedDataParallel(plain)  # between two steps
    with pytest.raises(TypeError, match="wrapped in DistributedDataParallel after Workers"):
        workers.backward(mean_square(model), examples())


def refuses_joining():
    model = small()
    workers = make(model)
    with model.join(), pytest.raises(RuntimeError, match=r"join\(\) lets processes end early"):
        workers.backward(mean_square(model), examples())


def the_last_pass_must_go_through_ddp():
    model = small()
    workers = make(model, count=2)
    with pytest.raises(RuntimeError, match=r"call the wrapped model itself, not its \.module"):
        workers.backward(mean_square(model.module), examples())
    workers.backward(mean_square(model), examples())


def one_backward_a_pass():
    model = small()
    workers = make(model)
    loss = mean_square(model)

    def twice():
        with workers.next():
            loss(examples()).backward()
            loss(examples()).backward()

    with pytest.raises(RuntimeError, match="a second backward pass in one worker's"):
        twice()


def unused_parameters_are_named():
    for count in (1, 2):
        workers = make(nn.parallel.DistributedDataParallel(Spare()), count=count)
        with pytest.raises(RuntimeError, match="where some parameters get no gradient, make it wi"):
            workers.backward(mean_square(workers.model), examples())
    workers = make(nn.parallel.DistributedDataParallel(Spare(), find_unused_parameters=True))
    workers.backward(mean_square(workers.model), examples())


class Sometimes(Spare):
    """Uses both layers where the first example says so."""

    def forward(self, x):
        return self.used(x) + self.unused(x) if x[0, 0] > 0 else self.used(x)


def what_some_workers_use(**options):
    """The gradients are one process's, and None where no worker of any process used a layer."""
    import torch.distributed as dist

    def sometimes():
        torch.manual_seed(0)
        return Sometimes()

    rank, plain = dist.get_rank(), sometimes()
    model = nn.parallel.DistributedDataParallel(sometimes(), find_unused_parameters=True, **options)
    ours, theirs = make(model, count=2), make(plain, count=4)
    torch.manual_seed(1)
    for use in ((1, 0, 1, 0), (0, 0, 0, 0), (0, 0, 1, 0), (0, 1, 0, 0), (1, 1, 1, 1), (0, 0, 0, 0)):
        x = examples(16).abs()
        x[:, 0] *= torch.tensor(use).repeat_interleave(4) - 0.5
        ours.backward(mean_square(model), x[8 * rank : 8 * rank + 8])
        theirs.backward(mean_square(plain), x)
        for p, q in zip(model.parameters(), plain.parameters(), strict=True):
            assert (p.grad is None) == (q.grad is None)
            if p.grad is not None:
                torch.testing.assert_close(p.grad, q.grad, rtol=1e-12, atol=1e-12)
        assert (plain.unused.weight.grad is None) == (sum(use) == 0)


def outside_no_sync():
    model = small()
    workers = make(model, count=2)
    with model.no_sync(), pytest.raises(RuntimeError, match=r"block and outside no_sync\(\)"):
        workers.backward(mean_square(model), examples())
    workers.backward(mean_square(model), examples())


def unfrozen_parameters_are_refused():
    plain = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    plain[0].requires_grad_(False)
    model = nn.parallel.DistributedDataParallel(plain)
    plain[0].requires_grad_(True)
    with pytest.raises(RuntimeError, match=r"shapes \[\(4, 3\), \(4,\)\] have a gradient, but"):
        make(model).backward(mean_square(model), examples())


def disagreement_on_the_count_is_named():
    import torch.distributed as dist

    model = small()
    workers = make(model, count=2 + dist.get_rank())
    with pytest.raises(RuntimeError, match="disagree on the count: rank 0 has 2, rank 1 has 3"):
        workers.backward(mean_square(model), examples(6))


def disagreement_on_the_perturbation_is_named():
    import torch.distributed as dist

    rank, model = dist.get_rank(), small()
    said = rf"rank 1 made .* rank {rank} has perturb=RNC\(alpha=0.{1 + rank}, "
    with pytest.raises(RuntimeError, match=said):
        make(model, lb.RNC((1 + rank) / 10)).backward(mean_square(model), examples())
    model, noise = small(), lb.AnnealedNoise(0.1, seed=rank)  # replicas would drift apart unseen
    with pytest.raises(RuntimeError, match=rf"gradient_noise=AnnealedNoise\(.*seed={rank}"):
        make(model, gradient_noise=noise).backward(mean_square(model), examples())


def disagreement_on_the_step_is_named():
    import torch.distributed as dist

    model = small()
    workers = make(model)
    if dist.get_rank():
        workers._passes.step = 5
    with pytest.raises(RuntimeError, match="disagree on the step: rank 0 has 0, rank 1 has 5"):
        workers.backward(mean_square(model), examples())


def short_groups(ran, say):
    """So many workers on each process of up to two: the mean is over those that ran."""
    import torch.distributed as dist

    rank = dist.get_rank()
    model, alone = small(find_unused_parameters=True), small().module
    workers = make(model, count=2)
    torch.manual_seed(1)
    whole = examples(16).view(2, 2, 4, 3)
    for step in range(3):
        wanted = []
        for r in range(2):
            for i in range(ran[r]):
                wanted.append(
                    torch.autograd.grad(mean_square(alone)(whole[r, i]), list(alone.parameters()))
                )
        for i in range(ran[rank]):
            last = i == ran[rank] - 1 if say else None
            with workers.next(last=last):
                mean_square(model)(whole[rank, i]).backward()
        if say and ran[rank] == 1:
            with (
                pytest.raises(RuntimeError, match=r"a worker after the one that next\(last=True"),
                workers.next(),
            ):
                pass
        workers.combine()
        if step == 0:
            for j, p in enumerate(model.parameters()):
                torch.testing.assert_close(p.grad, torch.stack([w[j] for w in wanted]).mean(0))
            (slots,) = workers.state_dict()["slots"]
            noisy = sum(ran) > 1  # one worker's gradient is the mean
            assert [bool(s.any()) for s in slots] == [noisy and i < ran[rank] for i in range(2)]
    assert workers.step == 3


def nobody_ran():
    workers = make(small(find_unused_parameters=True), count=2)
    with pytest.raises(RuntimeError, match=r"combine\(\) before any worker has run on any"):
        workers.combine()


def an_empty_batch_on_one_process():
    import torch.distributed as dist

    model = small()
    workers = make(model)
    x = examples()
    if dist.get_rank():
        with pytest.raises(ValueError, match="cannot share a batch of 0"):
            workers.backward(mean_square(model), x[:0])
        workers.combine()
    else:
        workers.backward(mean_square(model), x)
    grads = [p.grad.clone() for p in model.parameters()]
    flat = torch.cat([g.flatten() for g in grads])
    every = [torch.empty_like(flat) for _ in range(2)]
    dist.all_gather(every, flat)
    assert torch.equal(*every)
    assert flat.any()


def forward_and_fail(run, x, y):
    with run.workers.next():
        run.loss(x, y)
        raise ZeroDivisionError


def a_failure_in_a_pass_can_be_mended():
    """In each pass of a step in turn, on every process."""
    import replicas

    ours = replicas.Run(sgd, GNC, 2, over=True)
    theirs = replicas.Run(sgd, GNC, 4, over=False)
    for step in range(6):
        for run in (ours, theirs):
            shards = run.workers.shards(*run.mine(*run.batch(step)))
            for i, (x, y) in enumerate(shards):
                if run is ours and i == step % 2:
                    with pytest.raises(ZeroDivisionError):
                        forward_and_fail(run, x, y)
                with run.workers.next():
                    run.loss(x, y).backward()
            run.workers.combine()
            run.optimizer.step()
    replicas.assert_same(ours, theirs)


def a_resumed_run_is_the_uninterrupted_one():
    import replicas

    whole = replicas.Run(sgd, GNC, 2, over=True).run(4)
    kept = copy.deepcopy(
        (whole.module.state_dict(), whole.optimizer.state_dict(), whole.workers.state_dict())
    )
    other = replicas.Run(sgd, GNC, 2, over=True)
    for part, state in zip((other.module, other.optimizer, other.workers), kept, strict=True):
        part.load_state_dict(state)
    for run in (whole, other):
        for step in range(4, 7):
            run.step(step)
    for name, each in whole.state().items():
        assert torch.equal(each, other.state()[name])


def another_processes_state_starts_from_zero_everywhere():
    import replicas

    run = replicas.Run(sgd, GNC, 2, over=True).run(2)
    states = [None, None]
    torch.distributed.all_gather_object(states, run.workers.state_dict())
    of_first = "the state is of the process of rank 0" if run.rank else "another process's state"
    with pytest.warns(UserWarning, match=of_first):
        run.workers.load_state_dict(states[0])
    assert not run.workers.state_dict()["slots"]
    alone = {**states[run.rank], "ranks": 1}
    with pytest.warns(
        UserWarning, match="of 2 workers on each of 1 processes, there are 2 on each of 2"
    ):
        run.workers.load_state_dict(alone)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.workers.load_state_dict(states[run.rank])
    assert run.workers.state_dict()["slots"]
    run.step(2)


CASES = {
    "second": refuses_a_second_workers,
    "copy": a_copy_of_the_model_may_have_its_own,
    "hooks": refuses_other_hooks,
    "options": refuses_options,
    "mesh": refuses_a_model_of_a_larger_mesh,
    "wrapped later": refuses_a_model_wrapped_later,
    "joining": refuses_joining,
    "unused": unused_parameters_are_named,
    "used by some": what_some_workers_use,
    "used by some, views": functools.partial(what_some_workers_use, gradient_as_bucket_view=True),
    "no_sync": outside_no_sync,
    "module": the_last_pass_must_go_through_ddp,
    "two backwards": one_backward_a_pass,
    "unfrozen": unfrozen_parameters_are_refused,
    "count": disagreement_on_the_count_is_named,
    "step": disagreement_on_the_step_is_named,
    "perturbation": disagreement_on_the_perturbation_is_named,
    **{
        f"short {ran}{' said' if say else ''}": functools.partial(short_groups, ran, say)
        for ran in ((1, 1), (2, 1), (1, 2), (2, 0), (0, 1))
        for say in (False, True)
    },
    "nobody": nobody_ran,
    "empty": an_empty_batch_on_one_process,
    "failure": a_failure_in_a_pass_can_be_mended,
    "resume": a_resumed_run_is_the_uninterrupted_one,
    "others' state": another_processes_state_starts_from_zero_everywhere,
}


@pytest.mark.parametrize("case", CASES)
def test_over_two_processes(case, outcomes):
    outcomes(case, "agreed")


def one_ends_early():
    import torch.distributed as dist

    model = small()
    workers = make(model, count=2)
    for _ in range(2):
        workers.backward(mean_square(model), examples())
    if dist.get_rank():
        return
    with pytest.raises(WaitedInVain, match=r"^rank 0 of 2 waited for the other processes"):
        workers.backward(mean_square(model), examples())


def one_runs_fewer_passes():
    """It forgets to combine, and does something else while the other waits for it."""
    import torch.distributed as dist

    model = small()
    workers = make(model, count=2)
    store = dist.distributed_c10d._get_default_store()
    if dist.get_rank():
        with workers.next():
            mean_square(model)(examples()).backward()
        store.wait(["over"], timedelta(seconds=120))
        return
    with pytest.raises(WaitedInVain, match=r"^rank 0 of 2 waited for the other processes"):
        workers.backward(mean_square(model), examples())
    store.set("over", "1")


ALONE = {"ends early": one_ends_early, "fewer passes": one_runs_fewer_passes}


@pytest.mark.slow
@pytest.mark.parametrize("case", ALONE)
def test_waiting_in_vain_ends_with_a_message(case, outcomes):
    outcomes(case, case)


if __name__ == "__main__":
    import replicas

    if sys.argv[4] == "agreed":
        replicas.main(CASES)
    else:
        replicas.main({sys.argv[4]: ALONE[sys.argv[4]]}, seconds=15, together=False)
