import re

import pytest

import largebatch as lb
from largebatch.lab.errors import InputError
from largebatch.lab.methods import NOISES, PERTURBATIONS, RULES, RunFacts, parse

RUN = RunFacts(seed=5, step_at=lambda share: round(400 * share))


@pytest.mark.parametrize("rule", [*RULES, "torch.optim:NAdam", "torch.optim:SGD"])
@pytest.mark.parametrize("perturb", [None, *PERTURBATIONS])
@pytest.mark.parametrize("option", [None, "longer", "grow"])
def test_every_join_in_any_order(rule, perturb, option):
    parts = [part for part in (rule, perturb, option) if part]
    for name in ("+".join(parts), "+".join(reversed(parts))):
        found = parse(name)
        assert (found.id, found.rule.name) == (name, rule)
        assert (found.longer, found.grow) == (option == "longer", option == "grow")
        assert (found.perturb.name if found.perturb else None) == perturb


def test_without_a_rule_it_is_momentum_sgd():
    assert parse("gnc").rule is RULES["msgd"]
    assert parse("rnc").perturb is PERTURBATIONS["rnc"]


@pytest.mark.parametrize(
    ("name", "kind", "parameter"),
    [("gnc", lb.GNC, "alpha"), ("sngm+rnc", lb.RNC, "alpha"), ("m-sam", lb.SAM, "rho")],
)
def test_perturbations_get_their_parameter_and_the_seed(name, kind, parameter):
    made = parse(name).built(0.2, RUN).perturb
    assert type(made) is kind
    assert getattr(made, parameter) == 0.2
    assert getattr(made, "seed", 5) == 5


def test_alpha_is_of_the_part_that_is_left_open():
    found = parse("sngm+gnc=0.1+agn+hard=0.25")
    built = found.built(0.02, RUN)
    assert built.perturb == lb.GNC(0.1)
    assert built.noise == lb.AnnealedNoise(0.02, seed=5)
    assert built.loss is not None
    assert found.free is NOISES["agn"]
    assert parse("gnc=0.1").built(None, RUN).perturb == lb.GNC(0.1)


def test_alpha_goes_with_a_part_and_with_nothing_else():
    assert parse("msgd").built(None, RUN) == (None, None, None)
    with pytest.raises(InputError, match=r"'gnc' needs an alpha \(its alpha\), got alpha=None"):
        parse("gnc").built(None, RUN)
    with pytest.raises(InputError, match=r"'sam' needs an alpha \(its rho\), got alpha=None"):
        parse("sam").built(None, RUN)
    for name in ("msgd", "gnc=0.1"):
        with pytest.raises(InputError, match=rf"'{name}' has no alpha, got alpha=0\.1"):
            parse(name).built(0.1, RUN)


def test_an_alpha_has_the_bounds_of_a_fixed_parameter():
    with pytest.raises(InputError, match=r"'hard': discard can be 0.9 at most, got 0.95"):
        parse("hard").built(0.95, RUN)


def test_a_switch_is_at_three_quarters_of_the_run():
    assert parse("gnc-rnc").built(0.2, RUN).perturb.at_step == 300


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lers", "unknown method 'lers' in 'lers': did you mean 'lars'"),
        ("sngm+gcn", "unknown method 'gcn' in 'sngm+gcn': did you mean 'gnc' or"),
        ("", "unknown method '' in '': known: msgd, sngm"),
        ("RAdam", "(or package.module:Class for any torch optimizer)"),
        ("NAdam", "unknown method 'NAdam' in 'NAdam': did you mean 'nadam'"),
        ("msgd+sngm", "'msgd+sngm' joins two of a kind"),
        ("gnc+rnc", "'gnc+rnc' joins two of a kind"),
        ("gnc=1+rnc=1", "joins two of a kind"),
        ("agn+agn-weights", "joins two of a kind"),
        ("hard+sharp=0.5", "joins two of a kind"),
        ("msgd+longer+grow", "has both 'longer' and 'grow'"),
        ("gnc+agn", "leaves 2 parameters open (alpha of gnc, eta of agn)"),
        ("gnc+agn", "fix all but one, as in agn=0.01"),
        ("sngm=0.1", "'sngm' in method 'sngm=0.1' has no parameter to fix"),
        ("gnc=much", "gnc='much' in method 'gnc=much': alpha must be a finite number of 0 or more"),
        ("gnc=1_0", "gnc='1_0' in method 'gnc=1_0': alpha must be a finite number"),
        ("gnc=inf", "alpha must be a finite number"),
        ("sam=-1", "rho must be a finite number"),
        ("hard=0.95", "discard must be a finite number of 0 or more and at most 0.9"),
        ("sngm+torch.optim:SGD", "joins two of a kind"),
    ],
)
def test_what_is_no_method_is_an_error(name, message):
    with pytest.raises(InputError, match=re.escape(message)):
        parse(name)
