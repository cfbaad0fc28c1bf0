"""Workers over DDP and FSDP2 with what loops use besides: scaler, autocast, clipping and more."""

import functools

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import largebatch as lb

PERTURB = lb.GNC(alpha=1.0)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


# How the two processes share a step of four workers: "replicas" and "shards" are FSDP2's.
WAYS = ("ddp", "replicas", "shards")


def over_two(way, perturb=PERTURB, **more):
    """A run over two processes, of four workers in all."""
    import meshes
    import replicas

    if way == "ddp":
        return replicas.Run(sgd, perturb, 2, over=True, **more)
    return meshes.run_over(way, sgd, perturb, 4 if way == "shards" else 2, **more)


def pair(way, change=None, dtype=torch.float64, perturb=PERTURB, **workers):
    """Two processes, and one with four workers."""
    import replicas

    models = [replicas.network(dtype) for _ in range(2)]
    for model in models:
        if change is not None:
            change(model)
    alone = replicas.Run(sgd, perturb, 4, over=False, model=models[1], **workers)
    return [over_two(way, perturb, model=models[0], **workers), alone]


def clipping(way):
    import replicas

    runs = pair(way)
    for run in runs:
        for step in range(10):
            x, y = run.mine(*run.batch(step))
            run.workers.backward(run.loss, x, y)
            norm = nn.utils.clip_grad_norm_(run.module.parameters(), 0.1)
            assert norm > 0.1
            run.optimizer.step()
    replicas.assert_same(*runs)


def by_hand_with_weights(way):
    """Workers of unequal weight, the last one said."""
    import replicas

    runs = pair(way)
    weights = [1.0, 5.0, 2.0, 3.0]
    for run in runs:
        mine = weights[run.rank * run.count :][: run.count]
        for step in range(10):
            shards = run.workers.shards(*run.mine(*run.batch(step)))
            for weight, (x, y) in zip(mine, shards, strict=True):
                with run.workers.next(weight=weight):
                    run.loss(x, y).backward()
            run.workers.combine()
            run.optimizer.step()
    replicas.assert_same(*runs)


def losses_that_add_up(way):
    import replicas

    runs = pair(way, reduction="sum")
    for run in runs:
        for step in range(10):
            part = run.mine(*run.batch(step))
            run.workers.backward(lambda x, y, run=run: run.loss(x, y) / run.count, *part)
            run.optimizer.step()
    replicas.assert_same(*runs)


def annealed_noise(placement, way):
    import replicas

    runs = pair(way, gradient_noise=lb.AnnealedNoise(eta=0.1, placement=placement))
    for run in runs:
        run.run(5)
    replicas.assert_same(*runs)
    replicas.assert_replicas_are_identical(runs[0])


def scaled(perturb, way):
    """A loss scale, and a step in which one worker of one process overflows."""
    import replicas

    runs = []
    for over in (True, False):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=4)
        if over:
            run = over_two(way, perturb, scaler=scaler)
        else:
            run = replicas.Run(sgd, perturb, 4, over=False, scaler=scaler)
        runs.append(run)
        for step in range(8):
            x, y = run.mine(*run.batch(step))
            x = x.clone()
            if step == 4 and run.rank == run.ranks - 1:
                x[-1] = float("inf")
            before = run.state()
            before = {n: before[n].clone() for n, _ in run.module.named_parameters()}
            run.workers.backward(run.loss, x, y)
            scaler.unscale_(run.optimizer)
            scaler.step(run.optimizer)
            scaler.update()
            same = all(torch.equal(run.state()[n], before[n]) for n in before)
            assert same == (step == 4)
            # What overflowed has left its mark in running statistics, as in any loop.
            for name, buffer in run.module.named_buffers():
                if step == 4 and "running" in name:
                    buffer.fill_(1.0)
        assert scaler.get_scale() == 2.0**10
        assert all(p.isfinite().all() for p in run.state().values())
    replicas.assert_same(*runs)
    replicas.assert_replicas_are_identical(runs[0])


def bfloat16_autocast(way):
    """Half precision rounds sums that are taken in another order: 1e-2 after 5 steps."""
    import replicas

    runs = pair(way, dtype=torch.float32)
    for run in runs:

        def loss(x, y, run=run):
            with torch.autocast("cpu", torch.bfloat16):
                return run.loss(x, y)

        for step in range(5):
            run.workers.backward(loss, *run.mine(*run.batch(step)))
            run.optimizer.step()
    replicas.assert_same(*runs, bound=1e-2)
    replicas.assert_replicas_are_identical(runs[0])


def activation_checkpointing(way):
    import replicas

    def change(model):
        inner = model.second.forward
        model.second.forward = lambda x: checkpoint(inner, x, use_reentrant=False)

    ours, theirs = pair(way, change)[0], pair(way)[1]
    replicas.assert_same(ours.run(5), theirs.run(5))


def compiled(way, order):
    """The compiled model within, or all compiled; eager autograd is enough to see the graph cut."""
    import meshes
    import replicas

    compile_ = functools.partial(torch.compile, backend="aot_eager")

    def wrap(model):
        if order == "inside":
            return replicas.wrapped(compile_(model))
        return compile_(replicas.wrapped(model))

    def cut(kind, model):
        if order == "inside":
            model.first.compile(backend="aot_eager")
            return meshes.sharded(kind, model)
        return compile_(meshes.sharded(kind, model))

    ours = over_two(way, wrap=wrap if way == "ddp" else cut).run(4)
    theirs = replicas.Run(sgd, PERTURB, 4, over=False).run(4)
    replicas.assert_same(ours, theirs)


def two_optimizers(way):
    import replicas

    runs = pair(way)
    for run in runs:
        parts = [[run.module.first.weight], [run.module.second.weight, run.module.last.weight]]
        optimizers = [torch.optim.AdamW(parts[0], lr=0.01), lb.CLARS(parts[1], cap=None)]
        model, workers = run.model, run.workers
        run.workers = None
        del workers
        run.workers = lb.Workers(model, optimizers, PERTURB, count=run.count)
        for step in range(6):
            run.workers.backward(run.loss, *run.mine(*run.batch(step)))
            for optimizer in optimizers:
                optimizer.step()
    replicas.assert_same(*runs)


EVERY = {
    "clipping": clipping,
    "weights": by_hand_with_weights,
    "sum": losses_that_add_up,
    "annealed noise": functools.partial(annealed_noise, "gradient"),
    "annealed noise on weights": functools.partial(annealed_noise, "weights"),
    "scaler": functools.partial(scaled, PERTURB),
    "scaler, m-SAM": functools.partial(scaled, lb.SAM(rho=0.1, per_worker=True)),
    "scaler, SAM": functools.partial(scaled, lb.SAM(rho=0.1)),
    "autocast": bfloat16_autocast,
    "checkpointing": activation_checkpointing,
    "two optimizers": two_optimizers,
}
ALL = {
    f"{name}, {way}": functools.partial(case, way=way)
    for way in WAYS
    for name, case in EVERY.items()
}
CASES = {name: ALL[name] for name in ALL if name.endswith("ddp")}
SLOW = {name: ALL[name] for name in ALL if name not in CASES} | {
    f"compiled {order}, {way}": functools.partial(compiled, way, order)
    for way in WAYS
    for order in ("inside", "outside")
}


@pytest.mark.parametrize("case", CASES)
def test_over_two_processes(case, outcomes):
    # Red: weights averaged by process, a flaw that one process keeps to itself, noise that stays
    # infinite, the loss scale in the remembered noise.
    outcomes(case, "quick")


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW)
def test_the_rest_over_two_processes(case, outcomes):
    outcomes(case, "slow")


if __name__ == "__main__":
    import sys

    import replicas

    replicas.main({"quick": CASES, "slow": SLOW}[sys.argv[4]])
