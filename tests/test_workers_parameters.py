"""Workers and parameters that are tied, frozen, unused, empty, new, or of several optimizers."""

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch.contracts import GradientNoise


class Tied(nn.Module):
    """Encoder and decoder share their weight; one layer is never used, one has no elements."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 3, bias=False)
        self.decoder = nn.Linear(3, 4, bias=False)
        self.decoder.weight = nn.Parameter(torch.empty(4, 3))
        self.tied = nn.Linear(4, 3)
        self.tied.weight = self.encoder.weight
        self.unused = nn.Linear(2, 2)
        self.empty = nn.Parameter(torch.empty(0, 5))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        nn.init.normal_(self.decoder.weight)

    def forward(self, x):
        hidden = self.encoder(x) * self.frozen + self.tied(x)
        return self.decoder(hidden.tanh()) + self.empty.sum()


def square(model):
    return lambda x: (model(x) - x).square().mean()


@pytest.mark.parametrize("scaling", ["filter", "plain"])
def test_tied_frozen_unused_and_empty_parameters(scaling):
    model = Tied().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    workers = lb.Workers(model, optimizer, lb.GNC(0.5, scaling), count=3)
    for _ in range(3):
        x = torch.randn(6, 4, dtype=torch.float64)
        workers.backward(square(model), x)
        assert model.unused.weight.grad is None
        assert model.frozen.grad is None
        optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())
    assert torch.equal(model.frozen, torch.ones(3, dtype=torch.float64))
    assert workers.offset_to_weight_norm > 0


def test_tied_weight_is_moved_once(batches):
    model = Tied().double()
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.5), lb.RNC(1.0), count=1)
    clean = model.encoder.weight.detach().clone()
    with workers.next():
        moved = (model.encoder.weight - clean).detach().norm(dim=1)
        square(model)(torch.ones(2, 4, dtype=torch.float64)).backward()
    torch.testing.assert_close(moved, 0.5 * clean.norm(dim=1))


def test_gradient_of_some_workers_only_counts_as_zero_elsewhere():
    model = nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)]).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    workers = lb.Workers(model, optimizer, lb.GNC(0.5), count=2)
    x = torch.ones(3, 2, dtype=torch.float64)
    for i in range(2):
        with workers.next():
            model[i](x).mean().backward()
    workers.combine()
    for layer in model:
        torch.testing.assert_close(layer.weight.grad, torch.full_like(layer.weight, 0.5))
    (slots,) = workers.state_dict()["slots"]
    torch.testing.assert_close(slots[0], torch.tensor([0.5] * 3 + [-0.5] * 3).double())
    torch.testing.assert_close(slots[1], -slots[0])


def test_unfreezing_restarts_the_noise_and_goes_on(network, batches, loss_of):
    model = network()
    head, body = model[3], model[0]
    body.requires_grad_(False)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    workers = lb.Workers(model, optimizer, lb.GNC(0.5), count=2)
    data = batches(4, 4)
    before = body.weight.detach().clone()
    for x, y in data[:2]:
        workers.backward(loss_of(model), x, y)
        optimizer.step()
    assert torch.equal(body.weight, before)
    body.requires_grad_(True)
    optimizer.add_param_group({"params": body.parameters()})
    needed = workers.bytes_needed
    ratios = []
    for x, y in data[2:]:
        workers.backward(loss_of(model), x, y)
        ratios.append(workers.offset_to_weight_norm.item())
        optimizer.step()
    assert needed == 2 * 8 * sum(p.numel() for p in model.parameters())
    assert ratios[0] == 0
    assert ratios[1] > 0
    assert not torch.equal(body.weight, before)


def test_only_parameters_of_the_optimizer_are_moved_and_combined(network, batches, loss_of):
    model = network()
    optimizer = torch.optim.SGD(model[3].parameters(), lr=0.5)
    workers = lb.Workers(model, optimizer, lb.RNC(0.5), count=2)
    clean = model[0].weight.detach().clone()
    with workers.next():
        assert torch.equal(model[0].weight, clean)
        loss_of(model)(*batches(1, 4)[0]).backward()
    assert workers.offset_to_weight_norm > 0


def test_several_optimizers_share_the_workers(network, batches, loss_of):
    runs = []
    for split in (False, True):
        model = network()
        parts = [[model[0], model[3]]] if not split else [[model[0]], [model[3]]]
        optimizers = [
            torch.optim.SGD([p for m in part for p in m.parameters()], lr=0.5) for part in parts
        ]
        workers = lb.Workers(model, optimizers, lb.GNC(0.5), count=2)
        for x, y in batches(3, 4):
            workers.backward(loss_of(model), x, y)
            for optimizer in optimizers:
                optimizer.step()
        runs.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_follows_a_model_that_is_cast_after_the_workers_were_made(network, batches, loss_of):
    model = network(torch.float32, norm=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    workers = lb.Workers(model, optimizer, lb.GNC(0.5), count=2)
    workers.backward(loss_of(model), *batches(1, 4, torch.float32)[0])
    model.double()
    start = model[1].running_mean.clone()
    x, y = batches(2, 4)[1]
    lefts = []
    for xi, yi in workers.shards(x, y):
        with workers.next():
            assert torch.equal(model[1].running_mean, start)
            loss_of(model)(xi, yi).backward()
            lefts.append(model[1].running_mean.clone())
    workers.combine()
    torch.testing.assert_close(model[1].running_mean, sum(lefts) / 2)


def test_activation_checkpointing_recomputes_at_the_workers_weights(network, batches, loss_of):
    from torch.utils.checkpoint import checkpoint_sequential

    runs = []
    for checkpointed in (False, True):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        workers = lb.Workers(model, optimizer, lb.GNC(2.0, "plain"), count=2)

        def fn(x, y, model=model, checkpointed=checkpointed):
            if not checkpointed:
                return loss_of(model)(x, y)
            out = checkpoint_sequential(model, 2, x, use_reentrant=False)
            return nn.functional.cross_entropy(out, y)

        for x, y in batches(3, 4):
            workers.backward(fn, x, y)
            optimizer.step()
        runs.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_what_is_frozen_loses_its_gradient(network, batches, loss_of):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    workers = lb.Workers(model, optimizer, lb.RNC(0.5), count=2)
    first, second = batches(2, 4)
    workers.backward(loss_of(model), *first)
    model[0].requires_grad_(False)
    frozen, head = model[0].weight.clone(), model[3].weight.clone()
    workers.backward(loss_of(model), *second)
    optimizer.step()
    assert model[0].weight.grad is None
    assert torch.equal(model[0].weight, frozen)
    assert not torch.equal(model[3].weight, head)


def test_parameters_of_no_optimizer_get_the_mean_and_nothing_else(network, batches, loss_of):
    model, other = network(), network()
    workers = lb.Workers(model, torch.optim.SGD(model[3].parameters()), lb.GNC(0.0), count=2)
    for x, y in batches(2, 4):
        workers.backward(loss_of(model), x, y)
        other.zero_grad()
        loss_of(other)(x, y).backward()
        # Not the sum over workers, and not that of two steps.
        for a, b in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)
    (slots,) = workers.state_dict()["slots"]
    assert slots.shape == (2, sum(p.numel() for p in model[3].parameters()))


def test_gradient_noise_is_only_for_parameters_of_the_optimizer(network, batches, loss_of):
    class Noise(GradientNoise):
        def add(self, gradients, step, scale):
            self.shapes = [g.shape for g in gradients]

    model, noise = network(), Noise()
    optimizer = torch.optim.SGD(model[3].parameters())
    workers = lb.Workers(model, optimizer, count=2, gradient_noise=noise)
    workers.backward(loss_of(model), *batches(1, 4)[0])
    assert noise.shapes == [p.shape for p in model[3].parameters()]


def test_an_empty_group_says_nothing_about_the_device():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD([{"params": []}, {"params": model.parameters()}], lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    workers = lb.Workers(model, optimizer, lb.GNC(0.5), count=2, scaler=scaler)
    workers.backward(lambda x: model(x).sum(), torch.ones(2, 3))
    torch.testing.assert_close(model.bias.grad, scaler.scale(torch.ones(2)))
