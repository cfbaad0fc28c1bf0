import pytest
import torch
from torch import nn

from largebatch.lab import evaluate as module
from largebatch.lab.evaluate import evaluate
from largebatch.lab.setup import load_task


@pytest.mark.parametrize("chunk", [7, 60, 1000])
def test_chunks_are_weighted_by_their_size(tiny, monkeypatch, chunk):
    task, data = load_task("tiny_task:batch_norm", None)
    monkeypatch.setattr(module, "CHUNK", chunk)
    model = task.model()
    x, y = data.test
    found = evaluate(model, task, data.test)
    outputs = model.eval()(x).detach()
    assert found["loss"] == pytest.approx(float(nn.functional.cross_entropy(outputs, y)), rel=1e-5)
    right = (outputs.argmax(dim=1) == y).double().mean()
    assert found["accuracy_percent"] == pytest.approx(100 * float(right))


def test_the_model_is_left_as_it_was(tiny):
    task, data = load_task("tiny_task:batch_norm", None)
    model = task.model().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    evaluate(model, task, data.test)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_also_where_it_fails(tiny):
    task, data = load_task("tiny_task:batch_norm", None)
    model = task.model().train()
    with pytest.raises(RuntimeError):
        evaluate(model, task, (data.test[0][:, :3], data.test[1]))
    assert model.training
