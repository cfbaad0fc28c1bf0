import re

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch.lab.errors import InputError
from largebatch.lab.methods import PERTURBATIONS, RULES, parse


@pytest.mark.parametrize("rule", [*RULES, "torch.optim:NAdam", "torch.optim:SGD"])
@pytest.mark.parametrize("perturb", [None, *PERTURBATIONS])
@pytest.mark.parametrize("longer", [False, True])
def test_every_join_in_any_order(rule, perturb, longer):
    parts = [part for part in (rule, perturb, "longer" if longer else None) if part]
    for name in ("+".join(parts), "+".join(reversed(parts))):
        found = parse(name)
        assert (found.id, found.rule.name, found.longer) == (name, rule, longer)
        assert (found.perturb.name if found.perturb else None) == perturb


def test_without_a_rule_it_is_momentum_sgd():
    assert parse("gnc").rule is RULES["msgd"]
    assert parse("rnc").perturb is PERTURBATIONS["rnc"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("msgd", torch.optim.SGD), ("lars", lb.LARS), ("sngm", lb.SNGM), ("gnc", torch.optim.SGD)],
)
def test_rules_get_rate_momentum_and_decay(name, kind):
    made = parse(name).optimizer(nn.Linear(2, 2).parameters(), 0.3, 0.7, 0.01)
    assert type(made) is kind
    group = made.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.3, 0.7, 0.01)


@pytest.mark.parametrize(("name", "kind"), [("gnc", lb.GNC), ("sngm+rnc", lb.RNC)])
def test_perturbations_get_alpha_and_seed(name, kind):
    made = parse(name).perturbation(0.2, 5)
    assert type(made) is kind
    assert made.alpha == 0.2
    assert getattr(made, "seed", 5) == 5


def test_alpha_goes_with_a_perturbation_and_with_nothing_else():
    assert parse("msgd").perturbation(None, 0) is None
    with pytest.raises(InputError, match="'gnc' needs an alpha, got alpha=None"):
        parse("gnc").perturbation(None, 0)
    with pytest.raises(InputError, match=r"'msgd' has no alpha, got alpha=0\.1"):
        parse("msgd").perturbation(0.1, 0)


def test_a_foreign_optimizer_gets_rate_and_decay_and_keeps_the_rest():
    made = parse("torch.optim:NAdam").optimizer(nn.Linear(2, 2).parameters(), 0.3, 0.7, 0.01)
    group = made.param_groups[0]
    assert type(made) is torch.optim.NAdam
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.3, 0.01, (0.9, 0.999))
    assert parse("torch.optim:NAdam").rule.lr == 2e-3  # its own default


def test_an_optimizer_of_the_users_own_in_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    (tmp_path / "mine_of_lab.py").write_text(
        "from torch.optim import SGD\nclass Mine(SGD):\n    def __init__(self, params, lr):\n"
        "        super().__init__(params, lr=lr)\n"
    )
    method = parse("mine_of_lab:Mine+gnc")
    made = method.optimizer(nn.Linear(2, 2).parameters(), 0.3, 0.7, 0.01)
    assert type(made).__name__ == "Mine"
    assert made.param_groups[0]["weight_decay"] == 0  # it takes none
    assert method.rule.lr == 0.01


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lers", "unknown method 'lers' in 'lers': did you mean 'lars'"),
        ("sngm+gcn", "unknown method 'gcn' in 'sngm+gcn': did you mean 'gnc'?"),
        ("", "unknown method '' in '': known: msgd, lars"),
        ("NAdam", "(or package.module:Class for any torch optimizer)"),
        ("msgd+sngm", "'msgd+sngm' joins two of a kind"),
        ("gnc+rnc", "'gnc+rnc' joins two of a kind"),
        ("sngm+torch.optim:SGD", "joins two of a kind"),
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
def test_what_is_no_method_is_an_error(name, message):
    with pytest.raises(InputError, match=re.escape(message)):
        parse(name)


def test_a_foreign_rule_gets_momentum_and_weight_decay_where_it_has_them():
    weight = torch.nn.Parameter(torch.ones(2))
    group = parse("torch.optim:SGD").optimizer([weight], 0.1, 0.8, 0.01).param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.1, 0.8, 0.01)
    assert "momentum" not in parse("torch.optim:NAdam").optimizer([weight], 0.1, 0.8, 0).defaults
