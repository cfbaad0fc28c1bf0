"""On a GPU: no step waits for the device, and a captured one is the step; skipped without one."""

import pytest
import torch

SHAPES = [(6, 4), (4,), (5, 3, 2, 2), (), (64, 80)]

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def make(seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(s, generator=generator) for s in SHAPES]
    return [torch.nn.Parameter(w.cuda()) for w in drawn]


def set_gradients(weights, seed):
    generator = torch.Generator().manual_seed(seed)
    for w in weights:
        gradient = torch.randn(w.shape, generator=generator).cuda()
        if w.grad is None:
            w.grad = gradient
        else:
            w.grad.copy_(gradient)


@pytest.mark.parametrize("lr", ["number", "tensor"])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"maximize": True}])
def test_no_step_waits_for_the_device(cls, options, lr):
    rate = torch.tensor(0.05, device="cuda") if lr == "tensor" else 0.05
    weights = make()
    optimizer = cls(weights, lr=rate, **options)
    set_gradients(weights, 0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):  # the first makes the state, and must not wait either
            optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}])
def test_a_captured_step_replays_as_the_step(cls, options):
    # Red: state that is made anew at each step, which a replayed graph would never see.
    rates = [torch.tensor(0.05, device="cuda") for _ in range(2)]
    eager, captured = (cls(make(), lr=rate, **options) for rate in rates)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for seed in range(2):
            set_gradients(captured.param_groups[0]["params"], seed)
            captured.step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.step()
    # Capturing does not run the step: replay it for every later one.
    for seed in range(2):
        set_gradients(eager.param_groups[0]["params"], seed)
        eager.step()
    for seed in range(2, 6):
        for rate in rates:
            rate.fill_(0.05 / seed)
        for optimizer in (eager, captured):
            set_gradients(optimizer.param_groups[0]["params"], seed)
        eager.step()
        graph.replay()
        pairs = zip(*(o.param_groups[0]["params"] for o in (eager, captured)), strict=True)
        for a, b in pairs:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
