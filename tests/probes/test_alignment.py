"""Shares of noise whose covariance is a known function of the Hessian."""

import math

import pytest
import torch

from largebatch.curvature import Eigenpairs, top_eigenpairs
from largebatch.probes import alignment

SPECTRUM = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5, 0.5], dtype=torch.float64)


def problem():
    """A Hessian of 6 elements in two layers, with its pairs and a root of it."""
    source = torch.Generator().manual_seed(4)
    basis = torch.linalg.qr(torch.randn(6, 6, generator=source, dtype=torch.float64))[0]
    hessian = basis @ SPECTRUM.diag() @ basis.T
    weights = [torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)]
    weights = [w.requires_grad_() for w in weights]

    def loss():
        flat = torch.cat([w.flatten() for w in weights])
        return flat @ hessian @ flat / 2

    return top_eigenpairs(loss, weights, 3, iterations=6), basis


def rows_of(flat):
    """(M, 6) as two layers."""
    return [flat[:, :4].view(-1, 2, 2), flat[:, 4:]]


def drawn(basis, covariance, workers, source):
    """Workers' gradients with a covariance of the Hessian's eigenvectors, and a large mean."""
    noise = torch.randn(workers, 6, generator=source, dtype=torch.float64) * covariance.sqrt()
    return (noise + 30) @ basis.T


@pytest.mark.parametrize("power", [1, 2])
def test_shares_are_those_of_the_covariance_without_bias(power):
    # Red: A/B without the jackknife, vectors not centred, layers in another order.
    pairs, basis = problem()
    covariance = SPECTRUM**power
    truth = covariance[:3] / covariance.sum()
    source = torch.Generator().manual_seed(7)

    def plain(flat):
        squares = ((flat - flat.mean(-2, keepdim=True)) @ basis).square().sum(-2)
        return (squares / squares.sum(-1, keepdim=True))[..., :3]

    taken_off = []
    for _ in range(600):
        flat = drawn(basis, covariance, 8, source)
        found = alignment(rows_of(flat), pairs, draws=1)
        assert found.top_share == pytest.approx(sum(found.noise_share))
        taken_off.append(torch.tensor(found.noise_share, dtype=torch.float64) - plain(flat))
    # What A/B is on average takes many more draws than what the jackknife takes off.
    many = torch.randn(100_000, 8, 6, generator=source, dtype=torch.float64) * covariance.sqrt()
    biased = plain(many @ basis.T).mean(0)
    taken_off = torch.stack(taken_off)
    error = 3 * float(taken_off.std(0).max()) / math.sqrt(600) + 1e-3
    assert error < 7e-3
    assert (biased - truth).abs().max() > 3 * error
    # What the jackknife leaves is of the order 1/M^2.
    assert (biased + taken_off.mean(0) - truth).abs().max() < error + 2e-3


def test_is_the_jackknife_written_out():
    # Red: a worker left out without the mean moving.
    pairs, basis = problem()
    flat = torch.randn(5, 6, dtype=torch.float64) + 2

    def share(rows):
        centred = rows - rows.mean(0)
        return float((centred @ basis[:, 0]).square().sum() / centred.square().sum())

    without = torch.tensor([share(torch.cat([flat[:i], flat[i + 1 :]])) for i in range(5)])
    found = alignment(rows_of(flat), pairs)
    assert found.noise_share[0] == pytest.approx(5 * share(flat) - 4 * float(without.mean()))
    assert found.noise_share_error[0] == pytest.approx(float(without.std() * 4 / 5**0.5))


def test_its_error_is_the_spread_that_it_has():
    # Red: the spread of one worker's, a variance.
    pairs, basis = problem()
    source = torch.Generator().manual_seed(1)
    found = [
        alignment(rows_of(drawn(basis, SPECTRUM, 32, source)), pairs, draws=1) for _ in range(500)
    ]
    spread = float(torch.tensor([each.noise_share[0] for each in found]).std())
    said = float(torch.tensor([each.noise_share_error[0] for each in found]).square().mean().sqrt())
    assert said == pytest.approx(spread, rel=0.12)


@pytest.mark.parametrize("workers", [4, 16])
def test_isotropic_noise_lies_within_its_interval_as_often_as_said(workers):
    # Red: an interval of infinitely many workers, of one that is not centred, of all k together.
    source = torch.Generator().manual_seed(2)
    size = 200
    vectors = torch.eye(size, dtype=torch.float64)[:2]
    pairs = Eigenpairs(torch.ones(2), [vectors], torch.zeros(2))
    single, both = [], []
    for _ in range(500):
        noise = torch.randn(workers, size, generator=source, dtype=torch.float64)
        found = alignment([noise], pairs, draws=10000 if not single else 1)
        low_high = (found.isotropic_low, found.isotropic_high)
        both_within = (found.top_isotropic_low, found.top_isotropic_high)
        if not single:
            interval, together = low_high, both_within
        single.append(interval[0] <= found.noise_share[0] <= interval[1])
        both.append(together[0] <= found.top_share <= together[1])
    assert found.isotropic_share == 1 / size
    assert found.top_isotropic_share == 2 / size
    assert interval[0] < 1 / size < interval[1]
    # 4 standard errors of 500 trials.
    assert sum(single) / 500 == pytest.approx(0.95, abs=0.04)
    assert sum(both) / 500 == pytest.approx(0.95, abs=0.04)


def test_a_layer_that_is_one_number_counts():
    vectors = [torch.tensor([[0.0, 0.0]]), torch.tensor([1.0])]
    pairs = Eigenpairs(torch.ones(1), vectors, torch.zeros(1))
    found = alignment([torch.zeros(4, 2), torch.randn(4)], pairs)
    assert found.top_share == pytest.approx(1)
    assert found.size == 3


def test_noise_along_one_eigenvector_is_all_there():
    pairs, basis = problem()
    flat = torch.randn(8, 1, dtype=torch.float64) * basis[:, 1] + 3
    found = alignment(rows_of(flat), pairs)
    assert found.noise_share == pytest.approx([0, 1, 0], abs=1e-9)
    assert found.ratio == pytest.approx([0, 6, 0], abs=1e-8)
    assert found.top_share == pytest.approx(1)
    assert found.eigenvalues == pytest.approx([8, 4, 2])
    assert (found.workers, found.size) == (8, 6)
    assert max(found.noise_share_error) < 1e-6


def test_no_noise_is_no_number_and_the_seed_names_the_interval():
    pairs, _ = problem()
    assert math.isnan(alignment(rows_of(torch.ones(4, 6)), pairs).top_share)
    flat = torch.randn(8, 6, dtype=torch.float64)
    first, same, other = (alignment(rows_of(flat), pairs, draws=50, seed=s) for s in (1, 1, 2))
    assert first == same
    assert first.isotropic_high != other.isotropic_high


def test_refuses_by_name():
    pairs, _ = problem()
    rows = rows_of(torch.randn(8, 6))
    for given, said in (
        ([each[:2] for each in rows], "at least three workers, got 2"),
        (rows[:1], "rows have 1 layers, the eigenvectors 2"),
        ([*rows, rows[0]], r"layer 2 of the rows has shape \(2, 2\), the eigenvectors' has None"),
        (rows[::-1], r"layer 0 of the rows has shape \(2,\), the eigenvectors' has \(2, 2\)"),
    ):
        with pytest.raises(ValueError, match=said):
            alignment(given, pairs)
