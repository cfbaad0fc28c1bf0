import re

import pytest
import torch
from torch import nn

from largebatch.lab.errors import InputError
from largebatch.lab.methods import parse


def built(name):
    """The one optimizer of a method, for rate 0.3, momentum 0.7 and weight decay 0.01."""
    (made,) = parse(name).optimizers(nn.Linear(2, 2).parameters(), 0.3, 0.7, 0.01)
    return made


def test_it_gets_the_rate_and_what_it_has_of_momentum_and_weight_decay():
    sgd, nadam = built("torch.optim:SGD"), built("torch.optim:NAdam")
    assert (type(sgd), type(nadam)) == (torch.optim.SGD, torch.optim.NAdam)
    group = sgd.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.3, 0.7, 0.01)
    group = nadam.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.3, 0.01, (0.9, 0.999))
    assert "momentum" not in nadam.defaults


def test_its_grid_is_wide_around_its_own_default():
    rule = parse("torch.optim:NAdam").rule
    assert (rule.lr, rule.step) == (2e-3, 10.0)


def test_one_of_the_users_own_in_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    (tmp_path / "mine_of_lab.py").write_text(
        "from torch.optim import SGD\nclass Mine(SGD):\n    def __init__(self, params, lr):\n"
        "        super().__init__(params, lr=lr)\n"
    )
    made = built("mine_of_lab:Mine+gnc")
    assert type(made).__name__ == "Mine"
    assert made.param_groups[0]["weight_decay"] == 0  # it takes none
    assert parse("mine_of_lab:Mine+gnc").rule.lr == 0.01


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch.optim:NAdm", "torch.optim has no 'NAdm': did you mean 'NAdam'"),
        ("torch.optim:", "torch.optim has no ''"),
        ("torch.optm:NAdam", "No module named 'torch.optm'; write package.module:Class"),
        (":NAdam", "'' is not a module's name; write package.module:Class"),
        (".optim:NAdam", "'.optim' is not a module's name"),
        ("/etc/passwd:x", "'/etc/passwd' is not a module's name"),
        ("torch.nn:Linear", "'torch.nn:Linear' is not a torch.optim.Optimizer class"),
        ("torch:manual_seed", "is not a torch.optim.Optimizer class"),
        ("torch.optim:LBFGS", "LBFGS does not work with workers: choose another"),
        ("torch.optim:SparseAdam", "SparseAdam does not work with workers"),
        ("torch.optim:Optimizer", "Optimizer has no argument lr"),
    ],
)
def test_what_cannot_be_a_rule_is_an_error(name, message):
    with pytest.raises(InputError, match=re.escape(message)):
        parse(name)
