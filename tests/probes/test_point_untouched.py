"""Probes of a point leave all as it was, bit for bit, also batch norm's and dropout's."""

from functools import partial

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch import probes

LOOKS = {
    "curvature_radius": lambda t: probes.curvature_radius(t.model, t.loss, t.batch, chunk=4),
    "by_differences": lambda t: probes.curvature_radius(
        t.model, t.loss, t.batch, weights=None, method="differences"
    ),
    "discarded_gradient": lambda t: probes.discarded_gradient(t.model, t.losses, t.batch, chunk=4),
    "distance_to_minimum": lambda t: probes.distance_to_minimum(t.model, t.loss, t.batch),
    "gradient_size": lambda t: probes.gradient_size(t.model, t.loss, t.batch, [3, 12], chunk=4),
    "perturbed_loss": lambda t: probes.perturbed_loss(t.model, t.loss, t.batch, t.places),
    "smoothness": lambda t: probes.smoothness(t.model, t.loss, t.batch, 0.1, t.places),
}


class Training:
    """A network between two steps of its training, with gradients and workers' noise."""

    def __init__(self):
        torch.manual_seed(0)
        self.calls, self.fails_at = 0, 0
        self.model = nn.Sequential(
            nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 3),
            nn.BatchNorm1d(3),
        )  # fmt: skip
        self.batch = torch.randn(12, 5), torch.randint(3, (12,))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.workers = lb.Workers(self.model, self.optimizer, lb.GNC(1.0), count=3)
        for _ in range(2):
            self.workers.backward(self.loss, *self.batch)
            self.optimizer.step()
        self.model[4].bias.requires_grad_(False)
        self.model[5].eval()
        self.places = [partial(self.workers.at, i) for i in range(3)]

    def losses(self, x, y):
        self.calls += 1
        if self.calls == self.fails_at:
            raise KeyError
        return nn.functional.cross_entropy(self.model(x), y, reduction="none")

    def loss(self, x, y):
        return self.losses(x, y).mean()

    def state(self):
        return {
            "weights": [p.detach().clone() for p in self.model.parameters()],
            "buffers": [b.clone() for b in self.model.buffers()],
            "gradients": [p.grad for p in self.model.parameters()],
            "values": [p.grad.clone() for p in self.model.parameters()],
            "modes": [m.training for m in self.model.modules()],
            "requires": [p.requires_grad for p in self.model.parameters()],
            "random": torch.get_rng_state(),
            "recording": torch.is_grad_enabled(),
            "batch": [each.clone() for each in self.batch],
            "step": self.workers.step,
            "momentum": [s["momentum_buffer"].clone() for s in self.optimizer.state.values()],
        }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.mark.parametrize("recording", [True, False])
@pytest.mark.parametrize("name", LOOKS)
def test_all_is_as_it_was(name, recording):
    training = Training()
    with torch.set_grad_enabled(recording):
        before = training.state()
        LOOKS[name](training)
        after = training.state()
    assert {key: same(before[key], after[key]) for key in before} == dict.fromkeys(before, True)
    assert all(x is y for x, y in zip(before["gradients"], after["gradients"], strict=True))


@pytest.mark.parametrize("name", LOOKS)
def test_all_is_as_it_was_where_it_fails(name):
    training = Training()
    before = training.state()
    training.fails_at = training.calls + 3
    if name == "distance_to_minimum":
        training.fails_at -= 1  # one call for the gradient, one for the products
    with pytest.raises(KeyError):
        LOOKS[name](training)
    after = training.state()
    assert {key: same(before[key], after[key]) for key in before} == dict.fromkeys(before, True)


def test_a_step_after_the_looks_is_the_step_without_them():
    ends = []
    for looks in ({}, LOOKS):
        training = Training()
        torch.manual_seed(8)
        for look in looks.values():
            look(training)
        training.workers.backward(training.loss, *training.batch)
        training.optimizer.step()
        ends.append({k: v.clone() for k, v in training.model.state_dict().items()})
    assert {k: torch.equal(v, ends[1][k]) for k, v in ends[0].items()} == dict.fromkeys(
        ends[0], True
    )
