"""Workers over FSDP2: its own switches, and models that do not use all of themselves in a pass."""

import functools
import sys
from datetime import timedelta

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch.parallel.waiting import WaitedInVain

pytestmark = pytest.mark.slow  # what few loops do

GNC = lb.GNC(alpha=1.0)
TOTAL = 4  # workers, over all processes


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def pair(kind, perturb=GNC, model=None, wrap=None):
    """The same workers over the mesh and in one process."""
    import meshes
    import replicas

    make = functools.partial(replicas.network, norm=False) if model is None else model
    count = TOTAL // meshes.MESHES[kind][0]
    wrap = meshes.sharded if wrap is None else wrap
    ours = meshes.run_over(kind, sgd, perturb, count, cut=True, model=make(), wrap=wrap)
    return ours, replicas.Run(sgd, perturb, TOTAL, over=False, model=make())


def branching():
    """A network with a layer that is left out where the first example says so."""
    import replicas

    class Branching(replicas.Network):
        def __init__(self):
            super().__init__(norm=False)
            self.branch = nn.Linear(3, 3)

        def forward(self, x):
            out = super().forward(x)
            return out if (x[:, 0, 0, 0] == 0).all() else self.branch(out)

    torch.manual_seed(1)
    return Branching().double()


def sharded_with_branch(kind, model):
    import meshes
    from torch.distributed.fsdp import fully_shard

    fully_shard(model.branch, mesh=meshes.mesh(kind))
    return meshes.sharded(kind, model)


def branches(kind, leave_out, own):
    """Where a worker leaves a layer out, its gradient is zero; where all do, there is none."""
    import replicas

    ours, theirs = pair(kind, model=branching, wrap=sharded_with_branch if own else None)
    for step in range(6):
        for run in (ours, theirs):
            x, y = run.batch(step)
            # Of each replica the workers that are named.
            x = x.view(TOTAL // ours.count, ours.count, -1, *x.shape[1:]).clone()
            for worker in leave_out(step, ours.count):
                x[:, worker, :, 0, 0, 0] = 0
            run.workers.backward(run.loss, *run.mine(x.flatten(0, 2), y))
            run.optimizer.step()
    replicas.assert_same(ours, theirs)


def every_other_step(step, count):
    return range(count) if step % 2 else []


def last_worker(step, count):
    return [count - 1]


def first_worker(step, count):
    return [0]


def all_of(run):
    return (run.model, run.module.first, run.module.last)


def gathered_before(kind):
    """Weights that are on their way when a pass begins are not a worker's."""
    import replicas

    ours, theirs = pair(kind)
    for step in range(4):
        for module in all_of(ours):
            module.unshard(async_op=True)
        ours.step(step)
        theirs.step(step)
    replicas.assert_same(ours, theirs)


def gathered_ahead(kind):
    import replicas

    ours, theirs = pair(kind)
    whole, first, last = all_of(ours)
    whole.set_modules_to_forward_prefetch([first, last])
    last.set_modules_to_backward_prefetch([first])
    whole.set_reshard_after_backward(False)
    replicas.assert_same(ours.run(4), theirs.run(4))


def without_sync(kind):
    """As loops call a pass that is not a step's last; Accelerate's and Lightning's do."""
    import replicas

    ours, theirs = pair(kind)
    for step in range(4):
        for i, shard in enumerate(ours.workers.shards(*ours.mine(*ours.batch(step)))):
            last = i == ours.count - 1
            ours.model.set_requires_gradient_sync(last)
            ours.model.set_is_last_backward(last)
            with ours.workers.next():
                ours.loss(*shard).backward()
        ours.workers.combine()
        ours.optimizer.step()
        theirs.step(step)
    replicas.assert_same(ours, theirs)


def left_unreduced(kind, switch):
    """A pass of somebody else's between steps is not a worker's."""
    import replicas

    ours, theirs = pair(kind)
    for step in range(4):
        ours.step(step)
        theirs.step(step)
        getattr(ours.model, switch)(False)
        ours.loss(*ours.mine(*ours.batch(step))).backward()
        getattr(ours.model, switch)(True)
    replicas.assert_same(ours, theirs)


def fails_at_once(kind):
    """Before FSDP has seen a forward pass."""
    import replicas

    ours, theirs = pair(kind)
    with pytest.raises(ZeroDivisionError):
        ours.workers.backward(lambda x, y: 1 / 0, *ours.mine(*ours.batch(0)))
    replicas.assert_same(ours.run(2), theirs.run(2))


def fails_in_backward(kind):
    """Of some layers gradients are there by then, of others not."""
    import replicas

    ours, theirs = pair(kind)

    def fail(*_):
        raise ZeroDivisionError

    def seen(module, inputs, out):
        out.register_hook(fail)

    def failing(x, y):
        handle = ours.module.second.register_forward_hook(seen)
        try:
            with ours.workers.next():
                loss = ours.loss(x, y)
                handle.remove()
                loss.backward()
        finally:
            handle.remove()

    for step in range(4):
        for i, (x, y) in enumerate(ours.workers.shards(*ours.mine(*ours.batch(step)))):
            if i == 0:
                with pytest.raises(ZeroDivisionError):
                    failing(x, y)
            with ours.workers.next():
                ours.loss(x, y).backward()
        ours.workers.combine()
        ours.optimizer.step()
        theirs.step(step)
    replicas.assert_same(ours, theirs)


def one_of_a_replica_runs_fewer_passes():
    """The others of its replica wait for it within FSDP's own messages."""
    import torch.distributed as dist

    ours, _ = pair("shards")
    ours.step(0)
    store = dist.distributed_c10d._get_default_store()
    if dist.get_rank():
        store.wait(["over"], timedelta(seconds=120))
        return
    with pytest.raises(WaitedInVain, match=r"^rank 0 of 2 waited for the other processes"):
        ours.step(1)
    store.set("over", "1")


def a_replica_without_a_worker_after_freezing():
    import torch.distributed as dist

    ours, _ = pair("replicas")
    ours.step(0)
    ours.module.first.requires_grad_(False)
    store = dist.distributed_c10d._get_default_store()
    if dist.get_rank():
        with pytest.raises(RuntimeError, match="without a worker on this replica after parameters"):
            ours.workers.combine()
        store.wait(["over"], timedelta(seconds=120))
        return
    with pytest.raises(WaitedInVain, match=r"^rank 0 of 2 waited for the other processes"):
        ours.step(1)
    store.set("over", "1")


def refuses_what_is_frozen():
    import meshes
    import replicas

    model = meshes.sharded("shards", replicas.network())
    optimizer = sgd(model.parameters())
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of the model is in training"):
        lb.Workers(model, optimizer, GNC, count=2)


def another_meshs_state_starts_from_zero():
    ours, _ = pair("replicas")
    state = ours.run(2).workers.state_dict()
    other, _ = pair("shards")
    other.workers.count = ours.count
    with pytest.warns(UserWarning, match="of workers in 1 pieces each, they are in 2 now"):
        other.workers.load_state_dict(state)
    assert other.workers.step == 2
    assert not other.workers.state_dict()["slots"]


LEFT_OUT = (every_other_step, last_worker, first_worker)
CASES = {
    f"{left.__name__}, {kind}{', own group' if own else ''}": functools.partial(
        branches, kind, left, own
    )
    for left in LEFT_OUT
    for kind in ("replicas", "shards")
    for own in (True, False)
}
CASES |= {
    f"{case.__name__}, {kind}": functools.partial(case, kind)
    for case in (gathered_before, gathered_ahead, without_sync, fails_at_once, fails_in_backward)
    for kind in ("replicas", "shards")
}
CASES |= {"frozen": refuses_what_is_frozen, "another mesh": another_meshs_state_starts_from_zero}
CASES |= {
    f"{switch}, {kind}": functools.partial(left_unreduced, kind, switch)
    for switch in ("set_requires_gradient_sync", "set_requires_all_reduce")
    for kind in ("replicas", "shards")
    if (switch, kind) != ("set_requires_all_reduce", "shards")
}


@pytest.mark.parametrize("case", CASES)
def test_over_two_processes(case, outcomes):
    outcomes(case, "switches")


ALONE = {
    "fewer passes": one_of_a_replica_runs_fewer_passes,
    "frozen": a_replica_without_a_worker_after_freezing,
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ALONE)
def test_waiting_in_vain_ends_with_a_message(case, outcomes):
    outcomes(case, case)


if __name__ == "__main__":
    import replicas

    if sys.argv[4] == "switches":
        replicas.main(CASES)
    else:
        replicas.main({sys.argv[4]: ALONE[sys.argv[4]]}, seconds=15, together=False)
