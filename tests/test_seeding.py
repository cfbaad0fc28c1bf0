import itertools

import torch

from largebatch.seeding import generator, key


def test_names_practically_never_collide():
    names = itertools.product(range(-2, 8), range(10), range(10), range(10))
    keys = {key(*name) for name in names}
    assert len(keys) == 10_000
    assert key(1, 2) != key(1, 2, 0)
    assert key(12, 3) != key(1, 23)


def test_keys_stay_what_they_are():
    # A resumed run of another version draws the same noise: these numbers are a format.
    assert key(0) == 893442142816765029
    assert key(0, 1, 2, 3) == 8479124504904169328


def test_keys_fit_every_generator():
    assert all(0 <= key(i) < 2**63 for i in range(1000))
    assert key(-(2**63), 2**63 - 1) >= 0


def test_generator_is_its_own():
    state = torch.get_rng_state()
    first = torch.rand(4, generator=generator("cpu", 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, torch.rand(4, generator=generator("cpu", 1, 2)))
    assert not torch.equal(first, torch.rand(4, generator=generator("cpu", 2, 1)))
