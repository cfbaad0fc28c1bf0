"""Eigenvalues against the covariance matrix itself, and isotropic noise against drawn noise."""

import math
import statistics

import pytest
import torch

from largebatch.probes import isotropic_condition, noise_covariance


def dense(rows):
    """Eigenvalues of Sigma = (1/M) Omega Omega', elements x elements, falling."""
    omega = (rows - rows.mean(0)).flatten(1).T
    return torch.linalg.eigvalsh(omega @ omega.T / len(rows)).flip(0)


@pytest.mark.parametrize("shape", [(3, 4, 5), (40,), (8,)], ids=["matrix", "vector", "as many"])
def test_is_the_largest_over_the_second_smallest_of_the_workers(shape):
    # Red: not centred (all rows have a large mean), the smallest, divided by M - 1.
    rows = torch.randn(9, *shape, dtype=torch.float64) * torch.logspace(0, 1, shape[-1]) + 7
    found = noise_covariance(["w"], [rows], percentiles=[0, 50, 100])
    values = dense(rows)[:8]
    assert found.ranks == [8]
    assert found.sizes == [math.prod(shape)]
    assert found.workers == 9
    assert found.condition == [pytest.approx(float(values[0] / values[-1]), rel=1e-6)]
    low, middle, high = found.eigenvalues[0]
    assert high == pytest.approx(float(values[0]))
    assert low == pytest.approx(float(values[-1]), rel=1e-6)
    assert middle == pytest.approx(float((values[3] + values[4]) / 2))


def test_a_layer_with_fewer_elements_than_workers_has_as_many_eigenvalues():
    # Red: the second smallest of the M x M matrix, which is zero here.
    rows = torch.randn(9, 4, dtype=torch.float64) * torch.tensor([1.0, 2.0, 3.0, 4.0])
    found = noise_covariance(["bias"], [rows])
    values = dense(rows)
    assert found.ranks == [4]
    assert found.condition == [pytest.approx(float(values[0] / values[-1]))]
    assert noise_covariance(["scalar"], [torch.randn(9)]).condition == [1.0]


def test_pieces_of_a_large_layer_add_up(monkeypatch):
    from largebatch.probes import centred

    rows = torch.randn(5, 100)
    whole = noise_covariance(["w"], [rows])
    monkeypatch.setattr(centred, "_TOGETHER", 7)
    parts = noise_covariance(["w"], [rows])
    assert parts.eigenvalues[0] == pytest.approx(whole.eigenvalues[0])


@pytest.mark.parametrize(("workers", "size"), [(4, 12), (8, 3), (3, 60), (16, 24)])
def test_isotropic_noise_is_as_noise_that_is_drawn(workers, size):
    # Red: chi with one degree more or less, M rows instead of M - 1, squares forgotten.
    drawn = [
        noise_covariance(["w"], [torch.randn(workers, size)], draws=1).condition[0]
        for _ in range(400)
    ]
    found = isotropic_condition(workers, size, draws=2000)
    ranked = sorted(drawn)
    # The median of 400 lies within these with 5 standard errors.
    low, high = ranked[200 - 50], ranked[200 + 50]
    assert low < found < high
    assert high / low < 1.8  # narrow enough to tell them from M, and from one more degree


def test_isotropic_noise_of_large_layers_by_the_law_of_marchenko_and_pastur():
    ratio = math.sqrt(99 / 1600)
    edges = ((1 + ratio) / (1 - ratio)) ** 2
    assert isotropic_condition(100, 1600) == pytest.approx(edges, rel=0.08)
    assert isotropic_condition(100, 10**12) == pytest.approx(1, abs=1e-3)


def test_isotropic_noise_stands_beside_each_layer_and_goes_by_the_seed():
    rows = [torch.randn(6, 10), torch.randn(6, 2, 50)]
    found = noise_covariance(["a", "b"], rows, draws=20, seed=3)
    assert found.isotropic_condition == [
        isotropic_condition(6, 10, 20, 3),
        isotropic_condition(6, 100, 20, 3),
    ]
    assert isotropic_condition(6, 10, 20, 3) != isotropic_condition(6, 10, 20, 4)
    assert noise_covariance(["a", "b"], rows, draws=20, seed=3) == found


def test_anisotropic_noise_is_told_from_isotropic():
    scales = torch.logspace(0, 3, 300)
    found = noise_covariance(["w", "v"], [torch.randn(16, 300) * scales, torch.randn(16, 300)])
    assert found.condition[0] > 3 * found.isotropic_condition[0]
    assert found.condition[1] == pytest.approx(statistics.mean(found.isotropic_condition), rel=0.4)


def test_no_noise_equal_workers_and_infinities():
    rows = [torch.ones(4, 9), torch.randn(4, 9), torch.randn(4, 9)]
    rows[1][0] = rows[1][1]  # two alike: one eigenvalue less
    rows[2][0, 0] = math.inf
    found = noise_covariance(["none", "alike", "infinite"], rows)
    assert math.isnan(found.condition[0])
    assert found.condition[1] == math.inf
    assert math.isnan(found.condition[2])
    assert all(math.isnan(each) for each in found.eigenvalues[2])


def test_refuses_by_name():
    rows = torch.randn(4, 9)
    for layers, given, more, said in (
        (["w"], [rows[:1]], {}, "at least two workers to be told from their mean, got 1"),
        (["w"], [rows, rows], {}, r"one of the 1 layers needs.*got \[4, 4\] rows"),
        (["w", "v"], [rows, rows[:3]], {}, r"got \[4, 3\] rows"),
        (["w"], [rows], {"percentiles": [50, 101]}, r"percents from 0 to 100, got \[50, 101\]"),
        (["w"], [rows], {"draws": 0}, "one draw, got workers=4, size=9, draws=0"),
    ):
        with pytest.raises(ValueError, match=said):
            noise_covariance(layers, given, **more)
