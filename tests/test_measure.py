"""Norms of many tensors: as exact as one sum, whatever way they take through memory."""

import pytest
import torch

from largebatch import measure
from largebatch.measure import any_nonzero, decayed, decayed_norms, flat, nonzero, norms

# A scalar, nothing, a small one, one above the limit for "small", and one of several pieces.
SHAPES = [(), (0, 3), (5, 3), (3, 2, 41, 43), (5, 29, 17, 151)]


def tensors(dtype=torch.float64, layout=torch.contiguous_format):
    torch.manual_seed(0)
    made = [torch.randn(s, dtype=torch.float64).to(dtype) for s in SHAPES]
    return [t.to(memory_format=layout) if t.ndim == 4 else t for t in made]


@pytest.fixture(autouse=True)
def pieces(monkeypatch):
    # Small, so that a tensor is cut into many, the last of them shorter.
    monkeypatch.setattr(measure, "_PIECE", 1000)
    monkeypatch.setattr(measure, "_SMALL", 500)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_norms_are_the_norms(layout):
    found = norms(tensors(layout=layout))
    wanted = torch.stack([t.norm() for t in tensors()])
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=0)


@pytest.mark.parametrize("other", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_decayed_norms_are_those_of_the_sum(layout, other):
    # Red: pairs of elements that do not belong together; a last piece left out.
    gradients, weights = tensors(layout=layout), [2 - t for t in tensors(layout=other)]
    found = decayed_norms(gradients, weights, 0.3)
    wanted = torch.stack([(g + 0.3 * w).norm() for g, w in zip(gradients, weights, strict=True)])
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=0)


def test_a_sum_that_nearly_vanishes_keeps_its_digits():
    # Red: ||g||^2 + 2*lambda*<g, w> + lambda^2*||w||^2, which leaves only rounding here.
    weights = [torch.randn(3000, dtype=torch.float32)]
    gradients = [-0.1 * weights[0] + 1e-6 * torch.randn(3000)]
    exact = (gradients[0].double() + 0.1 * weights[0].double()).norm()
    assert decayed_norms(gradients, weights, 0.1).item() == pytest.approx(exact.item(), rel=1e-2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_summed_in_float32(dtype):
    # Red: squares that overflow float16, or the 8 bits of a bfloat16 sum.
    large = [torch.full((40, 50), 300.0, dtype=dtype), torch.full((3,), 300.0, dtype=dtype)]
    wanted = torch.tensor([300.0 * 2000**0.5, 300.0 * 3**0.5])
    torch.testing.assert_close(norms(large), wanted, rtol=1e-5, atol=0)
    doubled = decayed_norms(large, large, 1.0)
    torch.testing.assert_close(doubled, 2 * wanted, rtol=1e-5, atol=0)
    assert decayed(large, large, 1.0)[0].dtype == torch.float32


def test_nothing_decays_into_the_gradients_themselves():
    gradients = tensors()
    assert decayed(gradients, gradients, 0.0) is gradients


@pytest.mark.parametrize("at", range(4))
def test_a_single_element_makes_it_nonzero(at):
    zeros = [torch.zeros(3, 5), torch.zeros(()), torch.zeros(0), torch.zeros(4)]
    assert not any_nonzero(zeros)
    if zeros[at].numel():
        zeros[at].view(-1)[-1] = float("nan") if at == 3 else 1e-30
        assert any_nonzero(zeros)
        assert nonzero(zeros).tolist() == [place == at for place in range(4)]


def test_elements_that_do_not_lie_side_by_side_have_no_flat_view():
    grid = torch.arange(24.0).view(1, 2, 3, 4)
    assert flat(grid[..., :2]) is None
    assert flat(grid.transpose(2, 3)[0]) is None
    last = grid.to(memory_format=torch.channels_last)
    assert flat(last).data_ptr() == last.data_ptr()
    assert sorted(flat(last).tolist()) == list(range(24))


def test_a_flat_view_of_a_piece_of_a_larger_tensor_is_that_piece():
    # Red: an offset into the storage left out.
    whole = torch.arange(48.0).view(2, 2, 3, 4).to(memory_format=torch.channels_last)
    assert sorted(flat(whole[1:]).tolist()) == list(range(24, 48))
