"""What Workers refuses, and the words it does so in."""

import pytest
import torch
from torch import nn

import largebatch as lb


def workers(**arguments):
    model = arguments.pop("model", None) or nn.Linear(3, 2)
    optimizer = arguments.pop("optimizer", None) or torch.optim.SGD(model.parameters(), lr=0.1)
    return lb.Workers(model, optimizer, **arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"count": 0}, ValueError, "count of at least 1, got count=0"),
        ({"count": True}, ValueError, "whole count of at least 1, got count=True"),
        ({"gradient_noise": "x"}, TypeError, "AnnealedNoise.*, got 'x': your own subclasses"),
        ({"gradient_noise": set}, TypeError, "AnnealedNoise.*, got <class 'set'>"),
        ({"scaler": 3}, TypeError, "must be a torch.amp.GradScaler or None, got 3"),
        ({"count": 2.0}, ValueError, "whole count of at least 1, got count=2.0"),
        ({"perturb": lb.GNC(0.1)}, ValueError, r"GNC\(.*\) needs at least 2 workers .* count=1"),
        ({"perturb": 0.1}, TypeError, "must be a perturbation such as .* got 0.1"),
        ({"perturb": lb.GNC}, TypeError, "must be a perturbation"),
        ({"noise_dtype": torch.float16}, ValueError, "noise_dtype must be .* got torch.float16"),
        ({"reduction": "none"}, ValueError, "reduction must be 'mean' or 'sum', got 'none'"),
    ],
)
def test_refuses_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        workers(**arguments)


def test_refuses_an_optimizer_of_another_model():
    with pytest.raises(ValueError, match="holds none of the model's parameters: make it from"):
        workers(optimizer=torch.optim.SGD(nn.Linear(3, 2).parameters()))


def test_refuses_a_parameter_that_two_optimizers_hold():
    model = nn.Linear(3, 2)
    both = [torch.optim.SGD(model.parameters()), torch.optim.Adam([model.bias])]
    with pytest.raises(ValueError, match="one optimizer, but 'bias' is held twice"):
        workers(model=model, optimizer=both)


def run_one(w):
    with w.next():
        w.model(torch.ones(1, 3)).sum().backward()


def test_refuses_more_workers_than_count():
    w = workers(count=2)
    run_one(w)
    run_one(w)
    with pytest.raises(RuntimeError, match=r"all count=2 workers .* call combine\(\)"):
        run_one(w)
    w.combine()
    run_one(w)


def test_refuses_what_cannot_happen_inside_a_worker():
    w = workers(count=2)
    with w.next():
        w.model(torch.ones(1, 3)).sum().backward()
        for action in (
            lambda: w.next().__enter__(),
            w.combine,
            lambda: list(w.shards(torch.ones(2, 3))),
            lambda: w.load_state_dict(w.state_dict()),
        ):
            with pytest.raises(RuntimeError, match=r"leave its `with` block|middle of a step"):
                action()
    assert w.model.weight.grad is None
    w.combine()
    torch.testing.assert_close(w.model.weight.grad, torch.ones(2, 3))


def test_refuses_to_combine_nothing():
    w = workers()
    with pytest.raises(RuntimeError, match=r"before any worker has run: enter .*next\(\)"):
        w.combine()
    run_one(w)
    w.combine()
    with pytest.raises(RuntimeError, match="before any worker has run"):
        w.combine()


@pytest.mark.parametrize("weight", [0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_refuses_a_weight_of_nothing(weight, reduction):
    w = workers(reduction=reduction)
    with pytest.raises(ValueError, match=r"weight must be above 0 .* leave out a worker"):
        w.next(weight=weight).__enter__()
    run_one(w)


@pytest.mark.parametrize(
    ("loss", "found"), [(torch.ones(2), r"\(2,\)"), (1.0, "float"), (None, "NoneType")]
)
def test_refuses_a_loss_that_is_not_one_number(loss, found):
    w = workers()
    with pytest.raises(ValueError, match=f"the loss as one number in a tensor, got {found}"):
        w.backward(lambda x: loss, torch.ones(1, 3))


def test_takes_a_loss_of_one_element():
    w = workers(count=2)
    loss = w.backward(lambda x: w.model(x).sum().reshape(1, 1), torch.ones(2, 3))
    assert loss.shape == ()


def test_refuses_a_batch_that_cannot_be_shared():
    w = workers(count=7)
    with pytest.raises(ValueError, match=r"count=7 workers cannot share a batch of 100: choose a"):
        w.backward(lambda x: w.model(x).sum(), torch.ones(100, 3))


def test_all_parameters_frozen_is_an_error():
    model = nn.Linear(3, 2)
    w = workers(model=model)
    model.requires_grad_(False)
    with pytest.raises(RuntimeError, match="no trained parameter has one"), w.next():
        model(torch.ones(1, 3))


def test_refuses_complex_parameters_by_name():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2, dtype=torch.complex64))
    with pytest.raises(TypeError, match=r"real parameters, but '1.weight' is torch.complex64"):
        workers(model=model)
    workers(model=model, optimizer=torch.optim.SGD(model[0].parameters()))


def test_refuses_parameters_without_a_shape_by_name():
    model = nn.Sequential(nn.LazyLinear(2))
    with pytest.raises(TypeError, match=r"'0.weight' is not initialized: run one forward pass"):
        workers(model=model)
    model(torch.ones(1, 3))
    run_one(workers(model=model))


@pytest.mark.parametrize("weight", [torch.tensor([2.0]), torch.tensor(2j)])
def test_refuses_a_weight_that_is_not_one_number_before_the_pass(weight):
    w = workers()
    with pytest.raises(ValueError, match=r"must be one real number, got a tensor of shape"):
        w.next(weight=weight).__enter__()
    run_one(w)
