"""Torch's own rules: what goes to which optimizer, and with which options."""

import pytest
import torch
from torch import nn

from largebatch.lab.errors import InputError
from largebatch.lab.methods import RULES, parse


def built(name, *layers):
    model = nn.Sequential(*layers or (nn.Linear(3, 2),))
    return model, parse(name).optimizers(model.parameters(), 0.3, 0.7, 0.01)


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("msgd", torch.optim.SGD, {"nesterov": False, "momentum": 0.7}),
        ("nesterov", torch.optim.SGD, {"nesterov": True, "momentum": 0.7}),
        ("adamw", torch.optim.AdamW, {"betas": (0.9, 0.999)}),
        ("nadam", torch.optim.NAdam, {"betas": (0.9, 0.999), "decoupled_weight_decay": True}),
    ],
)
def test_torchs_own(name, kind, options):
    (made,) = built(name)[1]
    assert type(made) is kind
    assert options.items() <= made.param_groups[0].items()


def test_muon_takes_the_matrices_and_adamw_the_rest():
    layers = (nn.Embedding(5, 4), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(3, 2))
    (embedding, conv, norm, linear), (muon, adamw) = built("muon", *layers)
    assert (type(muon), type(adamw)) == (torch.optim.Muon, torch.optim.AdamW)
    (matrices,), (rest,) = muon.param_groups, adamw.param_groups
    assert set(matrices["params"]) == {embedding.weight, linear.weight}
    assert set(rest["params"]) == {*conv.parameters(), *norm.parameters(), linear.bias}
    # One rate serves both where Muon's step is as long as AdamW's.
    assert matrices["adjust_lr_fn"] == "match_rms_adamw"
    assert matrices["lr"] == rest["lr"] == 0.3


def test_muon_alone_where_there_are_matrices_only():
    _, made = built("muon", nn.Linear(3, 2, bias=False))
    assert [type(each) for each in made] == [torch.optim.Muon]


def test_muon_needs_a_matrix():
    with pytest.raises(InputError, match="muon steps matrices, and this network has none: choose"):
        built("muon", nn.Conv2d(1, 2, 3))


def test_the_grids_lie_around_torchs_own_rates():
    for name, kind in (("adamw", "AdamW"), ("nadam", "NAdam"), ("muon", "Muon")):
        own = parse(f"torch.optim:{kind}").rule
        assert (RULES[name].lr, RULES[name].step) == (own.lr, own.step)
    assert (RULES["nesterov"].lr, RULES["nesterov"].step) == (RULES["msgd"].lr, RULES["msgd"].step)
