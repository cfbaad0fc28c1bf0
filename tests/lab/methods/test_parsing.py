import re

import pytest

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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lers", "unknown method 'lers' in 'lers': did you mean 'lars'"),
        ("sngm+gcn", "unknown method 'gcn' in 'sngm+gcn': did you mean 'gnc'?"),
        ("", "unknown method '' in '': known: msgd, sngm"),
        ("RAdam", "(or package.module:Class for any torch optimizer)"),
        ("NAdam", "unknown method 'NAdam' in 'NAdam': did you mean 'nadam'"),
        ("msgd+sngm", "'msgd+sngm' joins two of a kind"),
        ("gnc+rnc", "'gnc+rnc' joins two of a kind"),
        ("sngm+torch.optim:SGD", "joins two of a kind"),
    ],
)
def test_what_is_no_method_is_an_error(name, message):
    with pytest.raises(InputError, match=re.escape(message)):
        parse(name)
