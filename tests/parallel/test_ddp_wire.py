"""What Workers sends over DDP's processes, and what DDP's own options make of it."""

import functools

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import largebatch as lb


class Sent(TorchDispatchMode):
    """The kind, number of elements and dtype of every message that leaves a process."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        if name.startswith("c10d."):
            (tensors, *_) = args
            for each in tensors:
                self.messages.append((name.split(".")[1], each.numel(), each.dtype))
        return function(*args, **(kwargs or {}))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def sent_by_ddp(model, steps):
    """What plain DDP sends for a step's forward and backward, after some steps."""
    import replicas

    for step in range(steps):
        x, y = replicas.batch(step, 1, torch.float32)
        with Sent() as sent:
            nn.functional.cross_entropy(model(x), y).backward()
    return sent.messages


def sent_by(run, steps):
    for step in range(steps):
        with Sent() as sent:
            run.step(step)
    return sent.messages


def reduced(messages):
    """Gradients and running statistics; not the tally, nor DDP's map of used parameters."""
    return [m for m in messages if m[0] == "allreduce_" and m[2] == torch.float32]


def broadcast(messages):
    return [m[1:] for m in messages if m[0] == "broadcast_"]


def bytes_are_those_of_ddp(name):
    import replicas

    perturb, count, optimizer = {
        "nothing": (None, 1, sgd),
        "GNC": (lb.GNC(alpha=0.3), 1, sgd),
        "micro-batches": (lb.GNC(alpha=0.3), 3, sgd),
        "CLARS": (lb.GNC(alpha=0.3), 2, lambda p: lb.CLARS(p, cap=None)),
        "SAM": (lb.SAM(rho=0.1), 2, sgd),
    }[name]
    options = {"bucket_cap_mb": 0.0005}  # several buckets
    wrap = functools.partial(replicas.wrapped, **options)
    model = replicas.network(torch.float32)
    run = replicas.Run(optimizer, perturb, count, over=True, model=model, wrap=wrap)
    ours = sent_by(run, 3)
    theirs = sent_by_ddp(wrap(replicas.network(torch.float32)), 3)
    gradients = reduced(theirs)
    assert len(gradients) > 1
    looks = [("allreduce_", sum(m[1] for m in gradients), torch.float32)] if name == "SAM" else []
    # In place of DDP's broadcast of running statistics, their sum.
    (statistics,) = (m for m in broadcast(theirs) if m[1] == torch.float32)
    assert reduced(ours) == [*looks, *gradients, ("allreduce_", *statistics)]
    # Once a step, whatever its passes, and only what has no mean: batch norm's counter.
    assert broadcast(ours) == [(1, torch.int64)]


def without_perturbation_it_is_ddp(name):
    """Bit for bit: two processes' sums have one order, and halves are exact."""
    import replicas

    options = {
        "as it is": {},
        "buckets": {"bucket_cap_mb": 0.0005},
        "views": {"gradient_as_bucket_view": True},
        "all used": {"find_unused_parameters": False},
        "static graph": {"static_graph": True, "find_unused_parameters": False},
    }[name]
    model, other = replicas.network(norm=False), replicas.network(norm=False)
    if not options.get("find_unused_parameters", True):
        for each in (model, other):
            each.unused.requires_grad_(False)
    wrap = functools.partial(replicas.wrapped, **options)
    run = replicas.Run(sgd, None, 1, over=True, model=model, wrap=wrap).run(5)
    plain = wrap(other)
    optimizer = sgd(p for p in other.parameters() if p.requires_grad)
    for step in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(
            plain(run.mine(*run.batch(step))[0]), run.mine(*run.batch(step))[1]
        ).backward()
        optimizer.step()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)
        assert (p.grad is None) == (q.grad is None)


def options_change_nothing(name):
    """With noise and micro-batches, the end is one process's."""
    import replicas

    options, change = {
        "views": ({"gradient_as_bucket_view": True}, None),
        "buckets": ({"bucket_cap_mb": 0.0005}, None),
        "channels last": ({}, lambda m: m.to(memory_format=torch.channels_last)),
        "views, channels last": (
            {"gradient_as_bucket_view": True},
            lambda m: m.to(memory_format=torch.channels_last),
        ),
        "own buffers": ({}, None),
    }[name]
    model = replicas.network()
    if change is not None:
        change(model)
    wrap = functools.partial(replicas.wrapped, **options)
    perturb = lb.GNC(alpha=1.0)
    ours = replicas.Run(sgd, perturb, 2, over=True, model=model, wrap=wrap)
    ours.model.broadcast_buffers = broadcast = name != "own buffers"
    ours.run(10)
    theirs = replicas.Run(sgd, perturb, 4, over=False).run(10)
    replicas.assert_same(ours, theirs)
    replicas.assert_replicas_are_identical(ours)
    assert ours.model.broadcast_buffers is broadcast


def a_look_at_the_loss_between_steps_is_not_reduced():
    """DDP reduces the first backward after a forward that had none, also under no_sync."""
    import replicas

    wrap = functools.partial(replicas.wrapped, gradient_as_bucket_view=True)
    perturb = lb.GNC(alpha=1.0)
    ours = replicas.Run(sgd, perturb, 2, over=True, wrap=wrap)
    theirs = replicas.Run(sgd, perturb, 4, over=False)
    for step in range(6):
        for run in (ours, theirs):
            run.model.eval()
            run.loss(*run.mine(*run.batch(step)))
            run.model.train()
            run.step(step)
    replicas.assert_same(ours, theirs)


def outside_a_pass_it_is_ddp():
    import replicas

    run = replicas.Run(sgd, lb.GNC(alpha=1.0), 2, over=True).run(2)
    plain = replicas.wrapped(replicas.network())
    plain.module.load_state_dict(run.module.state_dict())
    x, y = run.mine(*run.batch(5))
    for model in (run.model, plain):
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
    for p, q in zip(run.module.parameters(), plain.module.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        assert p.grad is None or torch.equal(p.grad, q.grad)
    assert run.model.broadcast_buffers


CASES = {
    **{
        f"bytes, {n}": (bytes_are_those_of_ddp, n)
        for n in ("nothing", "GNC", "micro-batches", "CLARS", "SAM")
    },
    **{
        f"plain, {n}": (without_perturbation_it_is_ddp, n)
        for n in ("as it is", "buckets", "views", "all used", "static graph")
    },
    **{
        f"noise, {n}": (options_change_nothing, n)
        for n in ("views", "buckets", "channels last", "views, channels last", "own buffers")
    },
    "a look between steps": (a_look_at_the_loss_between_steps_is_not_reduced,),
    "outside a pass": (outside_a_pass_it_is_ddp,),
}


@pytest.mark.parametrize("case", CASES)
def test_over_two_processes(case, outcomes):
    # Red: an all-reduce for each micro-batch, DDP's broadcast left on, `bucket.gradients()` read
    # in channels-last order, a total that is a view of a bucket.
    outcomes(case)


if __name__ == "__main__":
    import replicas

    replicas.main({name: functools.partial(*case) for name, case in CASES.items()})
