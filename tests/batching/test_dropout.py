import pytest
import torch
from torch import nn
from torch.nn import functional

from largebatch.batching import set_dropout


def dropped(model, *inputs):
    """The share of zeros that a model makes of ones."""
    return float((model(*inputs) == 0).float().mean())


@pytest.mark.parametrize("kind", [nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d])
def test_drops_that_share(kind):
    model = nn.Sequential(nn.Identity(), kind(0.1))
    assert set_dropout(model, 0.6) == 1
    sizes = {nn.Dropout1d: (200, 50, 2), nn.Dropout2d: (200, 50, 1, 2)}
    x = torch.ones(sizes.get(kind, (200, 50, 1, 1, 2)))
    assert abs(dropped(model, x) - 0.6) < 0.03
    model.eval()
    assert dropped(model, x) == 0.0
    assert set_dropout(model.train(), 0) == 1
    assert dropped(model, x) == 0.0


def test_attention_and_layers_of_recurrence_are_counted():
    model = nn.ModuleList(
        [
            nn.TransformerEncoderLayer(8, 2, dropout=0.0),  # three modules and its attention
            nn.LSTM(4, 4, num_layers=2),
            nn.GRU(4, 4),  # one layer: nothing between
            nn.AlphaDropout(),
        ]
    )
    assert set_dropout(model, 0.3) == 6
    assert model[0].self_attn.dropout == model[1].dropout == model[3].p == 0.3
    assert model[2].dropout == 0.0
    same = torch.ones(5, 2, 4)
    torch.manual_seed(0)
    first, second = (model[1](same)[0] for _ in range(2))
    assert not torch.equal(first, second)
    attended = [model[0].self_attn(*[torch.ones(5, 2, 8)] * 3)[0] for _ in range(2)]
    assert not torch.equal(*attended)


def test_refuses_a_model_without_dropout():
    class Net(nn.Module):
        def forward(self, x):
            return functional.dropout(x, 0.5)

    with pytest.raises(ValueError, match=r"no dropout module in Net: add nn.Dropout, or change"):
        set_dropout(Net(), 0.5)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_refuses_a_share_out_of_range(p):
    with pytest.raises(ValueError, match=f"0 or more and below 1, got p={p}"):
        set_dropout(nn.Dropout(), p)
