"""Hutchinson's estimate against known diagonals: unbiased, and exact where it must be."""

import pytest
import torch

from largebatch.curvature import hessian_products, hutchinson_diagonal, rademacher

MATRIX = torch.tensor(
    [[3.0, 1.0, -2.0, 0.5], [1.0, -1.0, 0.7, 0.0], [-2.0, 0.7, 0.2, 1.5], [0.5, 0.0, 1.5, 2.0]],
    dtype=torch.float64,
)


def quadratic(matrix=MATRIX):
    """Two parameters, the loss w.M.w/2 of both as one vector: its Hessian is M."""
    weights = [torch.zeros(s, dtype=torch.float64, requires_grad=True) for s in ((2, 1), (2,))]

    def loss():
        w = torch.cat([each.flatten() for each in weights])
        return w @ matrix @ w / 2

    return loss, weights


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


@pytest.mark.parametrize("method", ["exact", "differences"])
def test_one_sample_is_exact_for_a_diagonal_hessian(method):
    # Red: Gaussian numbers in place of signs; a product that is not multiplied by them again.
    loss, weights = quadratic(MATRIX.diag().diag())
    found = hutchinson_diagonal(loss, weights, method=method)
    torch.testing.assert_close(flat(found), MATRIX.diag(), rtol=0, atol=1e-9)
    assert [f.shape for f in found] == [w.shape for w in weights]


def test_the_estimate_is_unbiased_with_the_variance_it_states():
    # Red: one z for all samples or parameters, a sum in place of the mean, correlated signs.
    loss, weights = quadratic()
    n = 2000
    found = flat(hutchinson_diagonal(loss, weights, samples=n))
    variance = MATRIX.square().sum(1) - MATRIX.diag().square()
    errors = (found - MATRIX.diag()) / (variance / n).sqrt()
    assert errors.abs().max() < 4
    singles = torch.stack([flat(hutchinson_diagonal(loss, weights, step=s)) for s in range(400)])
    torch.testing.assert_close(singles.var(0), variance, rtol=0.15, atol=0)


def test_estimates_of_all_steps_samples_and_seeds_differ_and_come_again():
    loss, weights = quadratic()
    names = [{}, {"step": 1}, {"seed": 1}, {"samples": 2}]
    found = [flat(hutchinson_diagonal(loss, weights, **name)) for name in names]
    again = [flat(hutchinson_diagonal(loss, weights, **name)) for name in names]
    assert torch.equal(torch.stack(found), torch.stack(again))
    assert len({tuple(each.tolist()) for each in found}) == 4


def test_the_global_generator_is_neither_read_nor_moved():
    loss, weights = quadratic()
    state = torch.get_rng_state()
    first = hutchinson_diagonal(loss, weights)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    torch.testing.assert_close(hutchinson_diagonal(loss, weights), first, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_half_precision_is_averaged_in_single(dtype):
    # Red: 1/3 summed in bfloat16; a frozen parameter left out of the list.
    w = torch.full((3,), 1.0, dtype=dtype, requires_grad=True)
    frozen = torch.ones((), dtype=dtype)
    found, still = hutchinson_diagonal(lambda: w.pow(3).sum(), [w, frozen], samples=3)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.float(), torch.full((3,), 6.0), rtol=1e-6, atol=0)
    assert still == 0


def test_a_memory_format_changes_no_sign():
    plain = torch.zeros(2, 3, 4, 4)
    strided = plain.to(memory_format=torch.channels_last)
    assert torch.equal(rademacher(plain, 1, 2), rademacher(strided, 1, 2))
    assert rademacher(plain, 1, 2).unique().tolist() == [-1.0, 1.0]
    assert abs(rademacher(torch.zeros(10_000), 5).mean()) < 0.05


@pytest.mark.parametrize("samples", [0, 1.5, True])
def test_a_number_of_samples_that_cannot_be_is_refused(samples):
    loss, weights = quadratic()
    with pytest.raises(ValueError, match="a whole number of samples from 1, got"):
        hutchinson_diagonal(loss, weights, samples=samples)


def test_one_graph_serves_all_samples():
    # The loss is evaluated once, however many products are asked for.
    loss, weights = quadratic()
    calls = []

    def counted():
        calls.append(1)
        return loss()

    hutchinson_diagonal(counted, weights, samples=5)
    assert len(calls) == 1
    hessian_products(counted, weights)
    assert len(calls) == 2
