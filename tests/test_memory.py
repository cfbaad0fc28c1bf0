"""Bytes that are announced, and no others that grow with the number of workers."""

import gc
import logging

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch.memory import Memory, bytes_needed


def parameters(*shapes, dtype=torch.float32):
    return [nn.Parameter(torch.zeros(s, dtype=dtype)) for s in shapes]


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float64])
def test_takes_exactly_the_bytes_that_were_announced(dtype):
    ps = parameters((3, 4), (5,), (0, 2), ()) + parameters((7,), dtype=torch.float64)
    memory = Memory("noise", ps, 6, dtype)
    taken = sum(b.untyped_storage().nbytes() for b in memory.buffers)
    assert taken == bytes_needed(ps, 6, dtype)
    size = {None: 18 * 4 + 7 * 8, torch.bfloat16: 25 * 2, torch.float64: 25 * 8}[dtype]
    assert taken == 6 * size


def test_says_the_bytes_before_it_takes_them(caplog):
    with caplog.at_level(logging.INFO, "largebatch"):
        Memory("noise", parameters((250_000,)), 4, None)
    assert "4 workers' noise takes 4.0 MB" in caplog.text


@pytest.fixture
def only_what_follows():
    """Have the collector look at nothing that was there before: other tests' modules are many."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def live_bytes() -> int:
    gc.collect()
    # Fakes, which compiling leaves about, hold no bytes and have no address.
    tensors = [t for t in gc.get_objects() if type(t) in (torch.Tensor, nn.Parameter)]
    # A gradient is no Python object before somebody looks at it.
    tensors += [p.grad for p in tensors if p.is_leaf and p.grad is not None]
    storages = {s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in tensors)}
    return sum(storages.values())


def held_during(count: int, perturb, scaler=None, noise_dtype=None) -> tuple[int, int, int]:
    """Bytes of tensors that one more step holds inside its last pass, and after ``combine``."""
    model = nn.Sequential(nn.Linear(100, 100), nn.Tanh(), nn.Linear(100, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(count, 100)
    torch.compiler.reset()  # what other tests compiled is dropped now, not in between
    start = live_bytes()
    workers = lb.Workers(
        model, optimizer, perturb, count=count, scaler=scaler, noise_dtype=noise_dtype
    )
    announced = workers.bytes_needed
    inside = 0
    for _ in range(2):
        for (xi,) in workers.shards(x):
            with workers.next() as worker:
                model(xi).pow(2).mean().backward()
                if worker.index == count - 1:
                    inside = live_bytes() - start
        workers.combine()
    return inside, live_bytes() - start, announced


@pytest.mark.parametrize("perturb", [None, lb.GNC(0.1, "plain"), lb.RNC(0.1, "plain")])
@pytest.mark.usefixtures("only_what_follows")
def test_holds_nothing_else_that_grows_with_count(perturb):
    model = 4 * (100 * 100 + 100 + 100 * 10 + 10)
    beyond = []
    for count in (2, 16):
        inside, after, announced = held_during(count, perturb)
        beyond.append((inside - announced, after - announced))
        assert (announced == count * model) if isinstance(perturb, lb.GNC) else (announced == 0)
    copies = 3 if perturb else 2  # the sum, this worker's gradient, the clean weights
    for inside, after in beyond:
        assert inside == pytest.approx(copies * model, abs=0.02 * model + 16 * 404)
        assert after == pytest.approx((copies - 1) * model, abs=0.02 * model + 16 * 404)


@pytest.mark.usefixtures("only_what_follows")
def test_bfloat16_halves_what_grows_with_count():
    held = {
        dtype: [held_during(count, lb.GNC(0.1), noise_dtype=dtype)[1] for count in (2, 16)]
        for dtype in (torch.float32, torch.bfloat16)
    }
    grown = {dtype: many - few for dtype, (few, many) in held.items()}
    model = 100 * 100 + 100 + 100 * 10 + 10
    assert grown == {torch.float32: 14 * 4 * model, torch.bfloat16: 14 * 2 * model}
    assert [held_during(4, lb.GNC(0.1), noise_dtype=d)[2] for d in held] == [
        4 * 4 * model,
        4 * 2 * model,
    ]


def test_combined_leaves_noise_or_the_gradient():
    for kind, expected in (("noise", [[-1.0, -2.0], [1.0, 2.0]]), ("gradient", [[1, 2], [3, 6]])):
        (p,) = ps = parameters((2,))
        memory = Memory(kind, ps, 3, None)
        for i, g in enumerate((torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0]))):
            memory.saw(i, [p], [g], factor=1.0, weight=1.0)
        memory.combined([torch.tensor([2.0, 4.0])], factor=1.0)
        assert memory.buffers[0].tolist() == [*expected, [0.0, 0.0]]


def test_noise_is_each_parameters_own_where_dtypes_mix_and_gradients_lack():
    # Red: the mean's pieces in another order than the slots', or moved up where one has none.
    ps = [*parameters((2,)), *parameters((1, 2), dtype=torch.float64), *parameters((), (3,))]
    memory = Memory("noise", ps, 3, None)
    given = [torch.ones(2), None, torch.tensor(3.0), torch.arange(3.0)]
    for i in range(2):
        own = [None if g is None else g * (i + 1) for g in given]
        memory.saw(i, ps, own, factor=1.0, weight=1.0)
    memory.combined([None if g is None else g * 3 for g in given], factor=0.5)
    for i, sign in enumerate((-0.5, 0.5)):
        for slot, g, p in zip(memory.of(i), given, ps, strict=True):
            expected = torch.zeros_like(p) if g is None else g * sign
            assert torch.equal(slot, expected.to(p.dtype))
    assert not any(slot.any() for slot in memory.of(2))


@pytest.mark.parametrize("bad", [float("inf"), -float("inf"), float("nan")])
def test_a_mean_that_is_not_finite_zeroes_all_noise(bad):
    ps = parameters((2,), (3,))
    memory = Memory("noise", ps, 2, None)
    for i in range(2):
        g = [torch.full((2,), float(i)), torch.tensor([1.0, bad if i else 1.0, 1.0])]
        memory.saw(i, ps, g, factor=1.0, weight=1.0)
    memory.combined([torch.full((2,), 0.5), torch.tensor([1.0, bad, 1.0])], factor=1.0)
    assert (memory.buffers[0] == 0).all()


def test_is_scaled_before_it_is_rounded_to_the_noise_dtype():
    ps = parameters((1,), dtype=torch.float64)
    memory = Memory("gradient", ps, 1, torch.float32)
    memory.saw(0, ps, [torch.tensor([1e40], dtype=torch.float64)], factor=1e-10, weight=1.0)
    assert memory.buffers[0].item() == pytest.approx(1e30)


def test_fits_only_its_own_parameters_in_their_order():
    a, b = parameters((2,), (2,))
    memory = Memory("noise", [a, b], 2, None)
    assert memory.fits("noise", [a, b])
    for kind, ps in (("gradient", [a, b]), ("noise", [b, a]), ("noise", [a])):
        assert not memory.fits(kind, ps)


def test_bfloat16_noise_follows_float32_noise(network, batches, loss_of):
    found = []
    for dtype in (None, torch.bfloat16):
        model = network(torch.float32)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        workers = lb.Workers(model, optimizer, lb.GNC(0.5), count=2, noise_dtype=dtype)
        for x, y in batches(4, 8, torch.float32):
            workers.backward(loss_of(model), x, y)
            optimizer.step()
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert not torch.equal(*found)
    torch.testing.assert_close(*found, rtol=0, atol=2e-3)


def test_a_gradient_that_cannot_be_scaled_leaves_the_slot_as_it_was():
    ps = parameters((2,), (3,))
    memory = Memory("gradient", ps, 1, None)
    memory.saw(0, ps, [torch.ones(2), torch.ones(3)], factor=1.0, weight=1.0)
    with pytest.raises(RuntimeError):
        memory.saw(0, ps, [None, torch.ones(3)], factor=torch.ones(2), weight=1.0)
    assert memory.buffers[0].tolist() == [[1.0] * 5]
