"""Losses along lines and on planes of problems whose loss is known everywhere."""

import pytest
import torch
from torch import nn

from largebatch.probes import filter_normalized, loss_line, loss_plane


class Bowl(nn.Module):
    """sum of c w^2 / 2 of a matrix and a bias."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(3, dtype=torch.float64))

    def forward(self, x):
        return (self.weight.square().sum() + 5 * self.bias.square().sum()) / 2 * x.mean()


ONE = (torch.ones(1, dtype=torch.float64),)


def value(weight, bias):
    return float((weight.square().sum() + 5 * bias.square().sum()) / 2)


def test_is_the_loss_at_each_position():
    # Red: positions added up, a sign, the first one's weights for all.
    model = Bowl()
    w, b = (p.detach().clone() for p in model.parameters())
    dw, db = torch.randn_like(w), torch.randn_like(b)
    line = loss_line(model, model, ONE, positions=[-1, 0, 2.5], direction=[dw, db])
    assert line.positions == [-1.0, 0.0, 2.5]
    expected = [value(w + a * dw, b + a * db) for a in line.positions]
    assert line.losses == pytest.approx(expected, rel=1e-12)
    assert torch.equal(model.weight, w)
    assert torch.equal(model.bias, b)


def test_a_plane_is_every_pair_of_positions():
    # Red: a and b exchanged.
    model = Bowl()
    w, b = (p.detach().clone() for p in model.parameters())
    one, other = ([torch.randn_like(w), torch.randn_like(b)] for _ in range(2))
    plane = loss_plane(
        model, model, ONE, positions_a=[0, 1, 3], positions_b=[-1, 2], directions=(one, other)
    )
    for i, a in enumerate(plane.positions_a):
        for j, c in enumerate(plane.positions_b):
            there = value(w + a * one[0] + c * other[0], b + a * one[1] + c * other[1])
            assert plane.losses[i][j] == pytest.approx(there, rel=1e-12)
    assert (len(plane.losses), len(plane.losses[0])) == (3, 2)


def test_a_random_direction_has_the_weights_filters():
    # Red: one length for a whole layer, biases moved.
    weights = [torch.randn(4, 3, 2, 2), torch.randn(4), torch.randn(5, 4) * 100]
    found = filter_normalized(weights, 0, 1)
    for d, w in zip(found, weights, strict=True):
        if w.ndim == 1:
            assert (d == 0).all()
        else:
            torch.testing.assert_close(d.flatten(1).norm(dim=1), w.flatten(1).norm(dim=1))
    cosine = torch.cosine_similarity(found[0].flatten(), weights[0].flatten(), dim=0)
    assert abs(cosine) < 0.5


def test_seed_and_number_name_a_direction():
    model = Bowl()
    lines = [
        loss_line(model, model, ONE, positions=[1.0], seed=s, direction=d).losses[0]
        for s, d in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert lines[0] == lines[1]
    assert len(set(lines)) == 3
    plane = loss_plane(model, model, ONE, positions_a=[0, 1], positions_b=[0, 1])
    assert plane.losses[1][0] == pytest.approx(lines[0], rel=1e-12)
    assert plane.losses[0][1] == pytest.approx(lines[2], rel=1e-12)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.drop, self.linear = nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(self.drop(self.norm(x)))


@pytest.mark.parametrize("fails", [False, True])
def test_leaves_all_as_it_was_and_sees_one_draw_of_dropout(fails):
    # Red: weights moved back by subtracting, running statistics, the global generator.
    model, x, y = Net(), torch.randn(8, 3), torch.randint(2, (8,))
    model(x).sum().backward()
    held = [p.grad for p in model.parameters()]

    def everything():
        state = {**model.state_dict(), **{str(j): g for j, g in enumerate(held)}}
        return {k: v.clone() for k, v in state.items()} | {"random": torch.get_rng_state()}

    calls = []

    def loss(x, y):
        assert not torch.is_grad_enabled()
        calls.append(len(x))
        if fails and len(calls) > 1:
            raise KeyError
        return nn.functional.cross_entropy(model(x), y)

    before = everything()
    if fails:
        with pytest.raises(KeyError):
            loss_line(model, loss, (x, y), positions=[0.3, 0.7])
    else:
        line = loss_line(model, loss, (x, y), positions=[0.3, 0, 0], chunk=5)
        assert line.losses[1] == line.losses[2] != line.losses[0]
        assert calls == [5, 3] * 3
    after = everything()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(p.grad is g for p, g in zip(model.parameters(), held, strict=True))


def test_a_cached_cast_of_the_weights_is_not_taken_for_the_moved_ones():
    model = nn.Linear(4, 1, bias=False)
    nn.init.zeros_(model.weight)
    x, ones = torch.ones(2, 4), [torch.ones(1, 4)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x)
        line = loss_line(
            model, lambda x: model(x).float().mean(), (x,), positions=[0, 1], direction=ones
        )
        assert (model(x) == 0).all()
    assert line.losses == [0.0, 4.0]


def test_chunks_of_unequal_length_weigh_their_examples():
    model = nn.Linear(3, 1).double()
    x = torch.randn(7, 3, dtype=torch.float64)
    whole, parts = (
        loss_line(model, lambda x: model(x).square().mean(), (x,), chunk=chunk).losses
        for chunk in (None, 3)
    )
    assert parts == pytest.approx(whole, rel=1e-12)


def test_refuses_by_name():
    model = Bowl()
    for options, said in (
        ({"positions": []}, r"one or more finite positions, got \[\]"),
        ({"positions": [0.0, float("nan")]}, r"finite positions, got \[0.0, nan\]"),
        ({"direction": [torch.ones(3, 4)]}, r"of shapes \[\(3, 4\), \(3,\)\], got \[\(3, 4\)\]"),
        ({"chunk": 0}, "at least one example, got chunk=0"),
    ):
        with pytest.raises(ValueError, match=said):
            loss_line(model, model, ONE, **options)


def test_weights_that_are_cut_are_refused(monkeypatch):
    from largebatch.probes import landscape

    monkeypatch.setattr(landscape, "sharding", lambda parameter: "a mesh")
    with pytest.raises(TypeError, match="needs them whole, but FSDP2 has cut them"):
        loss_line(Bowl(), lambda x: x, ONE)
