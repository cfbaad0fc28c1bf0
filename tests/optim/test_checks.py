"""Values that options may and may not have."""

import numpy
import pytest
import torch

from largebatch.optim import checks


@pytest.mark.parametrize("check", [checks.nonnegative, checks.positive, checks.fraction])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, "0.1", None, True, 1j])
def test_what_is_no_such_number_is_refused(check, value):
    with pytest.raises(ValueError, match=r"^it must be .* got "):
        check("it", value)


@pytest.mark.parametrize("check", [checks.nonnegative, checks.learning_rate])
def test_zero_is_a_rate_but_not_a_positive_number(check):
    assert check("it", 0) == 0.0
    with pytest.raises(ValueError, match="above 0, got 0"):
        checks.positive("it", 0)


def test_numbers_of_numpy_become_plain():
    for value in (numpy.float64(0.5), numpy.float32(0.5)):
        for check in (checks.nonnegative, checks.positive, checks.fraction, checks.learning_rate):
            assert type(check("it", value)) is float


def test_a_tensor_is_a_rate_if_it_holds_one():
    lr = torch.tensor([0.1])
    assert checks.learning_rate("lr", lr) is lr
    for bad in (torch.tensor(-0.1), torch.tensor(float("nan")), torch.ones(2), torch.ones(0)):
        with pytest.raises(ValueError, match=r"lr must be .* got"):
            checks.learning_rate("lr", bad)


def test_a_flag_is_not_a_number():
    with pytest.raises(ValueError, match="maximize must be one of True, False, got 1"):
        checks.one_of(True, False)("maximize", 1)
