"""What CUDA graphs need of a step, as far as it shows without a GPU.

A graph's backward pass leaves gradients in buffers of its own, and nothing may be read on the host.
"""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import largebatch as lb

METHODS = {
    "none": None,
    "filter-wise": lb.GNC(0.5),
    "plain": lb.GNC(0.5, "plain"),
    "sam": lb.SAM(0.1),
    "sam per worker": lb.SAM(0.1, per_worker=True),
}


class Replayed(torch.autograd.Function):
    """Gradients in the same buffers at every pass, as make_graphed_callables gives them."""

    @staticmethod
    def forward(ctx, loss_of, buffers, x, y, *parameters):
        with torch.enable_grad():
            loss = loss_of(x, y)
        ctx.found, ctx.buffers = torch.autograd.grad(loss, parameters), buffers
        return loss.detach()

    @staticmethod
    def backward(ctx, grad):
        for buffer, found in zip(ctx.buffers, ctx.found, strict=True):
            buffer.copy_(found * grad)
        return (None, None, None, None, *(buffer.detach() for buffer in ctx.buffers))


@pytest.mark.parametrize("name", METHODS)
def test_gradients_in_a_graphs_own_buffers_are_added_up_all_the_same(
    name, network, batches, loss_of
):
    ends = []
    for graphed in (False, True):
        model = network()
        parameters = list(model.parameters())
        buffers = [torch.zeros_like(p) for p in parameters]
        plain = loss_of(model)
        loss = plain
        if graphed:
            loss = lambda x, y: Replayed.apply(plain, buffers, x, y, *parameters)  # noqa: B023, E731
        optimizer = torch.optim.SGD(parameters, lr=0.5, momentum=0.9)
        workers = lb.Workers(model, optimizer, METHODS[name], count=4)
        for x, y in batches(4, 8):
            workers.backward(loss, x, y)
            optimizer.step()
        ends.append([p.detach() for p in parameters])
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="torch without CUDA")
@pytest.mark.parametrize("name", METHODS)
def test_a_step_on_an_accelerator_reads_nothing_on_the_host(name):
    # Fakes have no values: reading one raises. Autograd needs a real device: gradients are handed.
    perturb = METHODS[name]
    passes = 1 if perturb is None else perturb.passes(0)
    with FakeTensorMode():
        with torch.device("cuda"):
            model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        workers = lb.Workers(model, optimizer, perturb, count=2)
        for _ in range(3):
            for _ in range(2 * passes):
                with workers.next():
                    for p in model.parameters():
                        p.grad = torch.ones_like(p)
            workers.combine()
            optimizer.step()
        ratio = workers.offset_to_weight_norm
        assert all(p.device.type == "cuda" for p in model.parameters())
        with pytest.raises(DataDependentOutputException):
            float(torch.ones((), device="cuda") if ratio is None else ratio)
