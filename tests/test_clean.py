"""Weights restored by copying; running statistics as the mean over workers."""

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch.clean import CleanWeights


def test_restores_bits_that_subtracting_would_not():
    weight = torch.rand(1000) + 1.0
    offset = torch.rand(1000) * 1e5
    kept = weight.clone()
    assert not torch.equal((weight + offset) - offset, kept)
    with CleanWeights().moved([weight], [offset]):
        assert torch.equal(weight, kept + offset)
    assert torch.equal(weight, kept)


def test_restores_infinities_and_nan():
    weight = torch.tensor([float("inf"), float("nan"), -0.0, 1e-45])
    kept = weight.clone()
    with CleanWeights().moved([weight], [torch.full((4,), float("inf"))]):
        pass
    assert torch.equal(weight.view(torch.int32), kept.view(torch.int32))


def test_restores_when_the_offset_cannot_be_added():
    weights = [torch.ones(2), torch.ones(3)]
    with pytest.raises(RuntimeError), CleanWeights().moved(weights, [torch.ones(2), torch.ones(5)]):
        pass
    assert torch.equal(weights[0], torch.ones(2))


def test_none_leaves_a_weight_where_it_is_without_a_copy():
    weight, still = torch.ones(2), torch.ones(3)
    with CleanWeights().moved([still, weight], [None, torch.ones(2)]):
        assert torch.equal(still, torch.ones(3))
        assert torch.equal(weight, torch.full((2,), 2.0))


def test_does_not_hold_the_offsets_during_the_pass():
    import weakref

    offset = torch.ones(2)
    held = weakref.ref(offset)
    with CleanWeights().moved([torch.ones(2)], [offset]):
        del offset
        assert held() is None


def normed(momentum=0.1):
    torch.manual_seed(3)
    layers = [nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=momentum), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(3, 2), nn.BatchNorm1d(2, momentum=momentum)).double()


@pytest.mark.parametrize("momentum", [0.1, None], ids=["moving", "cumulative"])
@pytest.mark.parametrize("perturb", [None, lb.GNC(0.5)])
def test_statistics_are_the_mean_over_workers_from_the_same_start(momentum, perturb):
    model = normed(momentum)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    workers = lb.Workers(model, optimizer, perturb, count=3)
    norms = [model[1], model[4]]
    for step in range(3):
        start = [b.clone() for b in model.buffers()]
        moments: list[list] = [[], []]
        hooks = [
            norm.register_forward_pre_hook(
                lambda m, x, kept=kept: kept.append((x[0].mean(0), x[0].var(0)))
            )
            for norm, kept in zip(norms, moments, strict=True)
        ]
        workers.backward(lambda x: model(x).pow(2).mean(), torch.randn(12, 4).double())
        for hook in hooks:
            hook.remove()
        share = momentum if momentum is not None else 1 / (step + 1)
        for j, (norm, kept) in enumerate(zip(norms, moments, strict=True)):
            for k, name in enumerate(("running_mean", "running_var")):
                left = [(1 - share) * start[3 * j + k] + share * seen[k] for seen in kept]
                torch.testing.assert_close(getattr(norm, name), (sum(left) / 3).detach())
            assert norm.num_batches_tracked == step + 1
        optimizer.step()


def test_layers_in_eval_mode_keep_their_bits():
    model = normed()
    model[1].eval()
    kept = [b.clone() for b in model[1].buffers()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    workers = lb.Workers(model, optimizer, lb.GNC(0.5), count=3)
    model[1].running_var.mul_(1 / 3)
    kept[1] = model[1].running_var.clone()
    for _ in range(2):
        workers.backward(lambda x: model(x).pow(2).mean(), torch.randn(12, 4).double())
        optimizer.step()
    assert all(torch.equal(b, k) for b, k in zip(model[1].buffers(), kept, strict=True))
    assert model[4].num_batches_tracked == 2


def test_short_group_takes_the_mean_of_those_that_ran():
    models = normed(), normed()
    x = torch.randn(8, 4).double()
    for model, count in zip(models, (2, 5), strict=True):
        workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.3), count=count)
        for xi in x.split(4):
            with workers.next():
                model(xi).pow(2).mean().backward()
        workers.combine()
    for a, b in zip(models[0].buffers(), models[1].buffers(), strict=True):
        assert torch.equal(a, b)


def test_norms_without_running_statistics_are_left_alone():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False))
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.3), count=2)
    workers.backward(lambda x: model(x).pow(2).mean(), torch.randn(8, 4))
    assert model[1].running_mean is None


def test_statistics_that_are_plain_attributes_count_too():
    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.running_mean, self.running_var = torch.zeros(4), torch.ones(4)

        def forward(self, x):
            self.running_mean += x.detach().mean(0)
            return x

    model = nn.Sequential(Norm(), nn.Linear(4, 3))
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.3), count=2)
    x = torch.randn(8, 4)
    workers.backward(lambda x: model(x).pow(2).mean(), x)
    torch.testing.assert_close(model[0].running_mean, x.mean(0))
