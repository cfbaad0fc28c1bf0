"""Zhao et al. 2024, Eq. 10: F = (x + 1)^2/2 from x > 0, where a share of |x| never gets past 0."""

import math

import pytest
import torch

from largebatch.optim import CLARS, LAMB, LARS, LARS2020, SNGM, PercentDelta

# Without momentum, with phi(z) = z: every step is eta*|x| long, and x only shrinks.
SHARES = {
    "LARS": lambda x: LARS([x], momentum=0.0, trust_coefficient=1.0, exclude=None),
    "LARS2020": lambda x: LARS2020([x], momentum=0.0, exclude=None),
    "CLARS": lambda x: CLARS([x], momentum=0.0, trust_coefficient=1.0, exclude=None, cap=None),
    "LAMB": lambda x: LAMB([x], betas=(0.0, 0.0), exclude=None),
    "PercentDelta": lambda x: PercentDelta([x], momentum=0.0),
}


def descend(make, rate, start=1.0, steps=2000):
    """All points of a descent, where the rate of step t is ``rate(t)``."""
    x = torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer, path = make(x), []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate(step)
        x.grad = x.detach() + 1
        if isinstance(optimizer, CLARS):
            optimizer.saw(0, [x], [x.grad], factor=1.0, weight=1.0)
            optimizer.combined([x.grad], factor=1.0)
        optimizer.step()
        path.append(x.item())
    return path


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("eta", [0.01, 0.3, 0.9])
def test_a_share_of_the_weight_stops_at_zero(name, eta):
    # As far as 1e-4: a weight that has become 0 itself is then scaled by one, as rules here do.
    steps = math.ceil(math.log(1e-4) / math.log(1 - eta))
    path = descend(SHARES[name], lambda step: eta, steps=steps)
    assert path == pytest.approx([(1 - eta) ** (step + 1) for step in range(steps)], rel=1e-4)


@pytest.mark.parametrize("eta", [0.01, 0.3, 0.9])
def test_sngm_comes_as_near_as_its_rate_is_long(eta):
    path = descend(lambda x: SNGM([x], momentum=0.0), lambda step: eta)
    assert all(abs(x + 1) <= eta for x in path[-100:])


def test_sngm_reaches_the_optimum_with_a_falling_rate():
    path = descend(lambda x: SNGM([x], momentum=0.0), lambda step: 0.2 * (1 - step / 2000))
    assert abs(path[-1] + 1) < 1e-3


def test_momentum_carries_lars_of_2017_across_zero_and_that_of_2020_not():
    eta, steps = 0.3, 300
    crossing = descend(
        lambda x: LARS([x], momentum=0.9, trust_coefficient=1.0, exclude=None),
        lambda step: eta,
        steps=steps,
    )
    assert min(crossing) < 0
    staying = descend(
        lambda x: LARS2020([x], momentum=0.9, exclude=None), lambda step: eta, steps=steps
    )
    assert min(staying) >= 0
