"""A compiled model sees the worker's weights."""

import pytest
import torch

import largebatch as lb


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("given", ["compiled", "plain"])
def test_trains_as_the_eager_model_does(backend, given, network, batches, loss_of):
    runs = []
    for compiled in (False, True):
        torch._dynamo.reset()
        model = network(torch.float32, norm=True)
        run = torch.compile(model, backend=backend) if compiled else model
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
        held = run if given == "compiled" else model
        workers = lb.Workers(held, optimizer, lb.GNC(2.0, "plain"), count=2)
        for x, y in batches(4, 8, torch.float32):
            workers.backward(loss_of(run), x, y)
            optimizer.step()
        assert workers.offset_to_weight_norm > 1e-2
        runs.append([t.detach() for t in [*model.parameters(), *model.buffers()]])
    torch.testing.assert_close(*runs, rtol=1e-3, atol=1e-4)
