"""Each worker's gradient over processes: gathered over replicas, cut where FSDP2 cuts weights."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

import largebatch as lb
from largebatch.curvature import top_eigenpairs
from largebatch.probes import WorkerGradients, alignment, noise_covariance

CASES = ("ddp", "ddp with fewer on one", "shards", "no group")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_over_processes(case, outcomes):
    # Red: only one's own workers, other orders on each process, sums over one's own pieces.
    outcomes(case)


def network_of():
    torch.manual_seed(1)
    named = {"first": nn.Linear(6, 5), "act": nn.Tanh(), "last": nn.Linear(5, 3)}
    model = nn.Sequential()
    for name, each in named.items():
        model.add_module(name, each)
    return model.double()


def data():
    source = torch.Generator().manual_seed(5)
    x = torch.randn(16, 6, generator=source, dtype=torch.float64)
    return x, torch.randint(3, (16,), generator=source)


def heard(model, count, x, y, kept, weigh=None):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    workers = lb.Workers(model, optimizer, count=count)
    workers.listen(kept)
    pieces = list(zip(x.chunk(count), y.chunk(count), strict=True))
    for xi, yi in pieces[:weigh]:
        with workers.next():
            nn.functional.cross_entropy(model(xi), yi).backward()
    workers.combine()


def same(kept, expected, pairs=None, other=None):
    found = [r.full_tensor() if hasattr(r, "full_tensor") else r for r in kept.rows()]
    rows = list(expected.rows())
    if other is not None:
        rows = [r[other] for r in rows]
    torch.testing.assert_close(found, rows, rtol=1e-9, atol=1e-12)
    ours = noise_covariance(kept.layers, kept.rows())
    theirs = noise_covariance(kept.layers, rows)
    torch.testing.assert_close(ours.eigenvalues, theirs.eigenvalues, rtol=1e-6, atol=1e-12)
    assert ours.sizes == theirs.sizes
    assert max(max(each) for each in theirs.eigenvalues) > 1e-6


def alone(count=8):
    model, kept = network_of(), WorkerGradients()
    heard(model, count, *data(), kept)
    return model, kept


def mine(each, pieces=2):
    return each.chunk(pieces)[dist.get_rank()]


def ddp(weigh=None, other=None):
    model = nn.parallel.DistributedDataParallel(network_of())
    kept = WorkerGradients(process_group=dist.group.WORLD)
    heard(model, 4, *map(mine, data()), kept, weigh)
    same(kept, alone()[1], other=other)


def shards():
    import meshes

    model, kept = meshes.sharded("shards", network_of()), WorkerGradients()
    x, y = data()
    halves = [torch.cat([xi.chunk(2)[dist.get_rank()] for xi in each.chunk(8)]) for each in (x, y)]
    heard(model, 8, *halves, kept)
    whole, expected = alone()
    same(kept, expected)

    def pairs(each, x, y, method):
        loss = lambda: nn.functional.cross_entropy(each(x), y)  # noqa: E731
        return top_eigenpairs(loss, list(each.parameters()), 3, iterations=40, method=method)

    ours = alignment(kept.rows(), pairs(model, *halves, "differences"))
    theirs = alignment(expected.rows(), pairs(whole, x, y, "exact"))
    torch.testing.assert_close(ours.noise_share, theirs.noise_share, rtol=1e-5, atol=1e-6)
    assert ours.size == theirs.size == sum(p.numel() for p in whole.parameters())


def no_group():
    model = nn.parallel.DistributedDataParallel(network_of())
    kept = WorkerGradients()
    heard(model, 4, *map(mine, data()), kept)
    with pytest.raises(ValueError, match=r"2 replicas, the group given has 1 process"):
        next(kept.rows())


def fewer():
    ddp(None if dist.get_rank() else 2, torch.tensor([0, 1, 4, 5, 6, 7]))


if __name__ == "__main__":
    import replicas

    replicas.main(dict(zip(CASES, (ddp, fewer, shards, no_group), strict=True)))
