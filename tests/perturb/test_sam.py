"""SAM against a SAM written by hand: look, climb, take the gradient, come back, step."""

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch.contracts import Point

RHO = 0.3


def climbed(model, gradients):
    """Foret et al., Eq. 2: w + rho*g/||g||; returns how to come back."""
    kept = [p.detach().clone() for p in model.parameters()]
    norm = sum(float((g.double() ** 2).sum()) for g in gradients) ** 0.5
    with torch.no_grad():
        for p, g in zip(model.parameters(), gradients, strict=True):
            p += RHO * g / norm
    return kept


def back(model, kept):
    with torch.no_grad():
        for p, k in zip(model.parameters(), kept, strict=True):
            p.copy_(k)


def gradients(model, loss):
    found = torch.autograd.grad(loss, list(model.parameters()))
    return [g.detach() for g in found]


def by_hand(model, fn, x, y, count, per_worker=False):
    """Leave the mean over the workers in p.grad; buffers are the caller's."""
    pieces = list(zip(x.chunk(count), y.chunk(count), strict=True))
    own = [gradients(model, fn(*piece)) for piece in pieces]
    mean = [torch.stack(each).mean(0) for each in zip(*own, strict=True)]
    second = []
    for piece, g in zip(pieces, own, strict=True):
        kept = climbed(model, g if per_worker else mean)
        second.append(gradients(model, fn(*piece)))
        back(model, kept)
    for p, each in zip(model.parameters(), zip(*second, strict=True), strict=True):
        p.grad = torch.stack(each).mean(0)


def close(models, rtol=1e-10, atol=1e-12):
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize("clip", [None, 0.05], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("per_worker", [False, True], ids=["SAM", "m-SAM"])
def test_trains_as_sam_by_hand_does(per_worker, count, clip, network, batches, loss_of):
    # Red: another sign, norms layer by layer, the mean of climbs in place of the climb of the mean.
    models = network(), network()
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.3, momentum=0.9) for m in models]
    perturb = lb.SAM(RHO, per_worker=per_worker)
    workers = lb.Workers(models[1], optimizers[1], perturb, count=count)
    for x, y in batches(5, 8):
        by_hand(models[0], loss_of(models[0]), x, y, count, per_worker)
        loss = workers.backward(loss_of(models[1]), x, y)
        assert loss > loss_of(models[1])(x, y)  # of the passes that count, where it is sharp
        for model, optimizer in zip(models, optimizers, strict=True):
            if clip:
                assert nn.utils.clip_grad_norm_(model.parameters(), clip) > clip
            optimizer.step()
    close(models)


def test_the_two_kinds_differ_so_that_the_oracles_can_fail(network, batches, loss_of):
    found = []
    for per_worker in (False, True, None):
        model = network()
        (x, y), *_ = batches(1, 8)
        if per_worker is None:
            loss_of(model)(x, y).backward()
        else:
            by_hand(model, loss_of(model), x, y, 4, per_worker)
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (found[a] - found[b]).abs().max() > 1e-4


def test_trains_as_by_hand_under_autocast(network, batches, loss_of):
    # Red: the second pass on weights that the first had cast; a factor rounded to a half.
    models = network(torch.float32), network(torch.float32)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.3) for m in models]

    def cast(model):
        def fn(x, y):
            with torch.autocast("cpu", torch.bfloat16):
                return loss_of(model)(x, y)

        return fn

    workers = lb.Workers(models[1], optimizers[1], lb.SAM(RHO), count=2)
    for x, y in batches(4, 8, torch.float32):
        by_hand(models[0], cast(models[0]), x, y, 2)
        with torch.autocast("cpu", torch.bfloat16):  # around all passes: the cache lives on
            workers.backward(loss_of(models[1]), x, y)
        for optimizer in optimizers:
            optimizer.step()
    close(models, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("per_worker", [False, True], ids=["SAM", "m-SAM"])
def test_the_loss_scale_makes_no_difference(per_worker, reduction, network, batches, loss_of):
    # Red: the found gradient left scaled, or a worker's share of a sum taken for the whole.
    models = network(torch.float32), network(torch.float32)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.3) for m in models]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=2)
    perturb = lb.SAM(RHO, per_worker=per_worker)
    workers = lb.Workers(
        models[1], optimizers[1], perturb, count=4, scaler=scaler, reduction=reduction
    )
    share = 1.0 if reduction == "mean" else 0.25
    for x, y in batches(4, 8, torch.float32):
        by_hand(models[0], loss_of(models[0]), x, y, 4, per_worker)
        optimizers[0].step()
        workers.backward(lambda x, y: loss_of(models[1])(x, y) * share, x, y)
        scaler.step(optimizers[1])
        scaler.update()
    assert scaler.get_scale() == 2.0**14
    close(models, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("per_worker", [False, True], ids=["SAM", "m-SAM"])
@pytest.mark.parametrize("at", range(4))
def test_an_overflow_skips_the_step_whichever_pass_it_is_in(
    at, per_worker, network, batches, loss_of
):
    # Red: an overflow of a first pass that makes NaN weights and so NaN running statistics, or
    # that is taken for a gradient of zero and stepped on.
    model = network(torch.float32, norm=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    perturb = lb.SAM(RHO, per_worker=per_worker)
    workers = lb.Workers(model, optimizer, perturb, count=2, scaler=scaler)
    first, second = batches(2, 8, torch.float32)
    calls = []

    def fn(x, y):
        calls.append(x)
        loss = loss_of(model)(x, y)
        return loss * (float("inf") if len(calls) == at + 1 else 1.0)

    kept = [p.detach().clone() for p in model.parameters()]
    workers.backward(fn, *first)
    scaler.step(optimizer)
    scaler.update()
    assert len(calls) == 4
    assert scaler.get_scale() == 2.0**7
    assert all(torch.equal(p, k) for p, k in zip(model.parameters(), kept, strict=True))
    assert all(b.isfinite().all() for b in model.buffers())

    workers.backward(fn, *second)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**7
    assert all(p.isfinite().all() for p in model.parameters())
    assert not torch.equal(model[0].weight, kept[0])


@pytest.mark.parametrize("per_worker", [False, True], ids=["SAM", "m-SAM"])
def test_running_statistics_are_of_the_second_passes(per_worker, network, batches, loss_of):
    # Red: statistics of clean weights kept, beside or in place of the others; two batches counted.
    count, (x, y) = 2, batches(1, 8)[0]
    model, other = network(norm=True), network(norm=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    workers = lb.Workers(model, optimizer, lb.SAM(RHO, per_worker=per_worker), count=count)
    start = [b.clone() for b in other.buffers()]
    seen = []

    def noted(x, y):
        for buffer, value in zip(other.buffers(), start, strict=True):
            buffer.copy_(value)
        loss = loss_of(other)(x, y)
        seen.append([b.clone() for b in other.buffers()])
        return loss

    by_hand(other, noted, x, y, count, per_worker)
    left = [torch.stack(each).double().mean(0) for each in zip(*seen[count:], strict=True)]
    clean = [torch.stack(each).double().mean(0) for each in zip(*seen[:count], strict=True)]
    assert (left[0] - clean[0]).abs().max() > 1e-3
    workers.backward(loss_of(model), x, y)
    for buffer, expected in zip(model.buffers(), left, strict=True):
        torch.testing.assert_close(buffer.double(), expected, rtol=1e-10, atol=1e-12)


def test_each_pass_that_looks_starts_and_ends_at_the_steps_statistics(network, batches, loss_of):
    model = network(norm=True)
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.3), lb.SAM(), count=2)
    start = [b.clone() for b in model.buffers()]
    for x, y in workers.shards(*batches(1, 8)[0]):
        with workers.next():
            assert all(torch.equal(b, s) for b, s in zip(model.buffers(), start, strict=True))
            loss_of(model)(x, y).backward()
        assert all(torch.equal(b, s) for b, s in zip(model.buffers(), start, strict=True))
    workers.combine()
    assert not any(torch.equal(b, s) for b, s in zip(model.buffers(), start, strict=True))


def test_is_as_long_as_rho_and_unperturbed_where_the_gradient_is_zero():
    weights = [torch.randn(3, 4), torch.randn(()), torch.randn(5, dtype=torch.float64)]
    point = Point(0, weights, lambda kind: [0.1] * 3)
    offsets = lb.SAM(0.7).offsets(point, 0, [torch.randn_like(w) for w in weights])
    assert sum(float(o.double().square().sum()) for o in offsets) ** 0.5 == pytest.approx(0.7)
    assert [o.dtype for o in offsets] == [w.dtype for w in weights]
    zero = lb.SAM(0.7).offsets(
        Point(1, weights, lambda kind: [0.1] * 3), 0, [torch.zeros_like(w) for w in weights]
    )
    assert all((o == 0).all() for o in zero)


def test_halves_are_as_long_as_rho():
    # 0.7/||g|| rounded to bfloat16 first would be off by up to 0.4%, the same way everywhere.
    for seed in range(5):
        weight = torch.randn(
            64, 64, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        weight = weight.bfloat16() * 3
        point = Point(0, [weight], lambda kind: [0.1])
        (offset,) = lb.SAM(0.7).offsets(point, 0, [weight])
        assert offset.dtype == torch.bfloat16
        assert offset.double().norm().item() == pytest.approx(0.7, rel=5e-4)


def test_refuses_what_cannot_work():
    with pytest.raises(ValueError, match=r"SAM needs 0 <= rho < infinity, got rho=-1"):
        lb.SAM(-1)
    point = Point(0, [torch.ones(2)], lambda kind: [0.1])
    with pytest.raises(ValueError, match="a gradient that a first pass must have found"):
        lb.SAM().offsets(point, 0, None)
