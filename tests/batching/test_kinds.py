"""What moves with the batch, against closed formulas for every optimizer of torch and of ours."""

import inspect
import math

import pytest
import torch

import largebatch as lb
from largebatch.batching import BatchSizeSchedule, Stages
from largebatch.schedule import RULES

LR, LAMBDA, KAPPA = 0.01, 0.02, 4.0


def parameter():
    return [torch.nn.Parameter(torch.ones(3, 3))]


def scheduled(optimizer, kappa=KAPPA, **options):
    base = 16
    course = Stages({0: int(base * kappa)}, key="steps")
    return BatchSizeSchedule(optimizer, course, base_batch=base, **options)


SQRT = {"lr": LR * 2}
DECOUPLED = {"weight_decay": LAMBDA * 2}  # lr * lambda grows fourfold, as the batch does
BETAS = {"betas": (0.9**4, 0.99**4)}
EPS = {"eps": 1e-6 / 2}
ADAM = {"betas": (0.9, 0.99), "eps": 1e-6}
EXPECTED = {
    "SGD": ({"momentum": 0.9}, {"lr": LR * 4, "momentum": 0.9, "weight_decay": LAMBDA}),
    "Adam": (ADAM, SQRT | BETAS | EPS | {"weight_decay": LAMBDA}),
    "AdamW": (ADAM, SQRT | BETAS | EPS | DECOUPLED),
    "NAdam": (ADAM | {"decoupled_weight_decay": True}, SQRT | BETAS | EPS | DECOUPLED),
    "RAdam": (ADAM, SQRT | BETAS | EPS | {"weight_decay": LAMBDA}),
    "Adamax": (ADAM, SQRT | BETAS | EPS | {"weight_decay": LAMBDA}),
    "RMSprop": (
        {"alpha": 0.99, "eps": 1e-6, "momentum": 0.5},
        SQRT | EPS | {"alpha": 0.99**4, "momentum": 0.5, "weight_decay": LAMBDA},
    ),
    "Adafactor": ({"beta2_decay": -0.8}, SQRT | DECOUPLED | {"beta2_decay": -0.8}),
    "Muon": ({"momentum": 0.95}, SQRT | DECOUPLED | {"momentum": 0.95**4}),
}
UNRULED = {"ASGD", "Adagrad", "Adadelta", "Rprop", "LBFGS"}


@pytest.mark.parametrize("name", EXPECTED)
def test_values_of_torchs_optimizers_move_as_the_formulas_say(name):
    options, expected = EXPECTED[name]
    make = getattr(torch.optim, name)
    optimizer = make(parameter(), lr=LR, weight_decay=LAMBDA, **options)
    before = dict(optimizer.param_groups[0])
    scheduled(optimizer)
    after = optimizer.param_groups[0]
    for option, value in expected.items():
        assert after[option] == pytest.approx(value, rel=1e-12), option
    same = [key for key in before if key not in expected and key != "params"]
    assert {key: after[key] for key in same} == {key: before[key] for key in same}


def test_every_optimizer_of_torch_has_a_rule_or_says_that_it_has_none():
    found = {
        name
        for name, each in vars(torch.optim).items()
        if inspect.isclass(each) and issubclass(each, torch.optim.Optimizer)
    }
    assert found - {"Optimizer"} == set(EXPECTED) | UNRULED | {"SparseAdam"}


@pytest.mark.parametrize("name", sorted(UNRULED))
def test_an_optimizer_without_a_rule_is_named(name):
    optimizer = getattr(torch.optim, name)(parameter(), lr=LR)
    with pytest.raises(ValueError, match=f"values of {name} follow the batch: say which kind"):
        scheduled(optimizer)
    assert optimizer.param_groups[0]["lr"] == LR
    scheduled(optimizer, rule="none")
    assert optimizer.param_groups[0]["lr"] == LR
    scheduled(optimizer, kind="sgd")
    assert optimizer.param_groups[0]["lr"] == LR * 4


OURS = [lb.SNGM, lb.LARS, lb.LARS2020, lb.CLARS, lb.PercentDelta, lb.MCLR, lb.CBLR, lb.LAMB]


@pytest.mark.parametrize("make", OURS, ids=lambda each: each.__name__)
def test_our_update_rules_move_their_rate_by_the_root_alone(make):
    optimizer = make(parameter(), lr=LR, weight_decay=LAMBDA)
    before = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    scheduled(optimizer)
    after = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    assert after == before | {"lr": LR * 2}


def test_all_our_update_rules_are_in_the_table():
    assert {each.__name__ for each in OURS} == set(lb.optim.__all__) & {
        name for name in lb.__all__ if inspect.isclass(getattr(lb, name))
    }


def test_a_class_of_ones_own_is_what_it_derives_from():
    class Lion(torch.optim.SGD):
        """By name a sign method, whatever its base."""

    class Mine(torch.optim.AdamW):
        pass

    lion, mine = Lion(parameter(), lr=LR), Mine(parameter(), lr=LR, weight_decay=LAMBDA)
    scheduled(lion)
    scheduled(mine)
    assert lion.param_groups[0]["lr"] == LR * 2
    assert mine.param_groups[0]["weight_decay"] == pytest.approx(LAMBDA * 2)


@pytest.mark.parametrize("kappa", [0.25, 1.0, 16.0, 4096.0])
def test_betas_keep_their_horizon_in_examples_and_stay_betas(kappa):
    optimizer = torch.optim.Adam(parameter(), lr=LR, betas=(0.9, 0.999))
    scheduled(optimizer, kappa)
    for beta, base in zip(optimizer.param_groups[0]["betas"], (0.9, 0.999), strict=True):
        assert 0 <= beta < 1
        if kappa <= 16:  # beyond, 0.9 to such a power has no digits left to compare
            assert math.log(beta) / kappa == pytest.approx(math.log(base), rel=1e-9)
        if kappa == 0.25:  # Malladi et al.: 1 - kappa (1 - beta), to first order
            assert beta == pytest.approx(1 - kappa * (1 - base), abs=(1 - base) ** 2)


def test_at_the_base_batch_nothing_moves_by_a_bit():
    optimizer = torch.optim.AdamW(parameter(), lr=0.1 + 0.2, betas=(0.9, 0.98), eps=1e-7)
    before = dict(optimizer.param_groups[0])
    scheduled(optimizer, kappa=1.0)
    assert dict(optimizer.param_groups[0]) == before


@pytest.mark.parametrize(
    ("rule", "factor"),
    [("linear", 4), ("sqrt", 2), ("none", 1), (RULES["log"], 3), (lambda k: 10.0, 10)],
)
def test_a_rule_by_name_or_as_a_function(rule, factor):
    optimizer = torch.optim.SGD(parameter(), lr=LR)
    scheduled(optimizer, rule=rule)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(LR * factor)


def test_none_moves_nothing_at_all_and_moves_chooses():
    adam = torch.optim.AdamW(parameter(), lr=LR)
    before = dict(adam.param_groups[0])
    scheduled(adam, rule="none")
    assert dict(adam.param_groups[0]) == before
    scheduled(adam, moves=("lr", "eps"))
    after = dict(adam.param_groups[0])
    assert {k for k in after if after[k] != before[k] and k != "params"} == {"lr", "eps"}


def test_decoupled_decay_follows_the_rule_that_the_rate_follows():
    optimizer = torch.optim.AdamW(parameter(), lr=LR, weight_decay=LAMBDA)
    scheduled(optimizer, rule="linear")
    group = optimizer.param_groups[0]
    assert group["lr"] * group["weight_decay"] == pytest.approx(LR * LAMBDA * KAPPA)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rule": "root"}, ValueError, "rule must be one of 'linear', 'sqrt', 'none'.* 'root'"),
        ({"rule": lambda k: 0.0}, ValueError, "above 0, got 0.0 of kappa=4"),
        ({"rule": lambda k: None}, TypeError, "rule must return a number for kappa, got None"),
        ({"kind": "adamw"}, ValueError, "kind must be one of 'sgd', 'adam'.* got 'adamw'"),
        ({"moves": ("lr", "beta")}, ValueError, r"moves must be a tuple of 'lr'.*\('lr', 'beta'\)"),
        ({"moves": "lr"}, ValueError, "moves must be a tuple of .* got 'lr'"),
    ],
)
def test_what_cannot_be_a_rule_is_refused(options, error, message):
    optimizer = torch.optim.SGD(parameter(), lr=LR)
    with pytest.raises(error, match=message):
        scheduled(optimizer, **options)
