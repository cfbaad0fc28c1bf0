"""Standing where a worker will look, and hearing workers: for probes, and without a trace."""

import pytest
import torch
from torch import nn

import largebatch as lb


def setting(perturb, count=4):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return model, optimizer, lb.Workers(model, optimizer, perturb, count=count)


def step(model, optimizer, workers, seed, seen=None):
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for (xi,) in workers.shards(x):
        with workers.next():
            if seen is not None:
                seen.append([p.detach().clone() for p in model.parameters()])
            model(xi).pow(2).mean().backward()
    workers.combine()
    optimizer.step()


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize(
    "perturb",
    [lb.GNC(0.5), lb.RNC(0.5), lb.MatchedNoise(0.5), lb.Switch(lb.GNC(0.5), lb.RNC(0.5), 2)],
    ids=str,
)  # fmt: skip
def test_at_is_where_the_worker_then_looks(perturb):
    # Red: the memory of another worker, the offsets of another step or rate, or none.
    model, optimizer, workers = setting(perturb)
    for number in range(4):
        looked = []
        for i in range(4):
            with workers.at(i):
                looked.append(weights(model))
        seen = []
        step(model, optimizer, workers, number, seen)
        for a, b in zip(looked, seen, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert any(not torch.equal(x, y) for x, y in zip(looked[0], looked[1], strict=True))


def test_at_leaves_no_trace():
    ends = []
    for looks in (False, True):
        model, optimizer, workers = setting(lb.GNC(0.5))
        for number in range(3):
            if looks:
                before = weights(model)
                with workers.at(2):
                    pass
                with pytest.raises(KeyError), workers.at(1):
                    raise KeyError
                after = weights(model)
                assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
            step(model, optimizer, workers, number)
        ends.append([*model.state_dict().values(), workers.offset_to_weight_norm])
    assert all(torch.equal(x, y) for x, y in zip(*ends, strict=True))


def test_a_pass_within_is_refused_and_weights_stay_clean():
    # Red: the pass takes the moved weights for the clean ones, and leaves them so.
    model, optimizer, workers = setting(lb.RNC(0.5))
    before = weights(model)
    x = torch.randn(16, 3, dtype=torch.float64)
    with workers.at(0):
        for within in (
            lambda: workers.backward(lambda x: model(x).sum(), x),
            lambda: workers.next().__enter__(),
            lambda: workers.at(1).__enter__(),
            workers.combine,
        ):
            with pytest.raises(RuntimeError, match=r"or at\(\) stands where one looks"):
                within()
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))
    step(model, optimizer, workers, 0)


def test_at_refuses_by_name():
    model, _optimizer, workers = setting(lb.GNC(0.5))
    for wrong in (-1, 4, 1.5, "0"):
        with (
            pytest.raises(ValueError, match=f"worker of this process, from 0 to 3: got {wrong!r}"),
            workers.at(wrong),
        ):
            pass
    with workers.next():
        model(torch.randn(4, 3, dtype=torch.float64)).sum().backward()
    with (
        pytest.raises(RuntimeError, match=r"at\(\) in the middle of a step: call combine\(\)"),
        workers.at(0),
    ):
        pass
    twice = setting(lb.SAM(0.05))[2]
    with pytest.raises(ValueError, match="needs a method of one pass, but SAM"), twice.at(0):
        pass


class Heard:
    def __init__(self):
        self.started, self.workers, self.means = [], [], []

    def starts(self, step, names, parameters):
        self.started.append((step, list(names), [id(p) for p in parameters]))

    def saw(self, worker, parameters, gradients, *, factor, weight):
        self.workers.append((worker, [g.clone() * factor for g in gradients]))

    def combined(self, gradients, *, factor):
        self.means.append([g.clone() * factor for g in gradients])

    def forget(self):
        self.workers.clear()


def test_who_listens_hears_every_worker_until_its_handle_is_removed():
    model, optimizer, workers = setting(None)
    heard = Heard()
    handle = workers.listen(heard)
    step(model, optimizer, workers, 0)
    assert [worker for worker, _ in heard.workers] == [0, 1, 2, 3]
    for j, mean in enumerate(heard.means[0]):
        torch.testing.assert_close(mean, sum(g[j] for _, g in heard.workers) / 4)
    names, parameters = zip(*model.named_parameters(), strict=True)
    assert heard.started == [(0, list(names), [id(p) for p in parameters])]
    handle.remove()
    step(model, optimizer, workers, 1)
    assert len(heard.workers) == 4


def test_a_frozen_parameter_is_not_announced():
    model, optimizer, workers = setting(None)
    heard = Heard()
    workers.listen(heard)
    model[0].weight.requires_grad_(False)
    step(model, optimizer, workers, 0)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert heard.started[0][1] == names
    assert len(heard.means[0]) == len(names)


def test_listen_refuses_what_is_no_listener_and_the_middle_of_a_step():
    model, _, workers = setting(None)
    with pytest.raises(TypeError, match=r"listen\(\) takes a listener such as"):
        workers.listen(object())
    with pytest.raises(TypeError, match=r"listen\(\) takes a listener such as"):
        workers.listen(Heard)
    heard = Heard()
    workers.listen(heard)
    with pytest.raises(ValueError, match="this Heard listens already"):
        workers.listen(heard)
    with workers.next():
        model(torch.randn(4, 3, dtype=torch.float64)).sum().backward()
    with pytest.raises(RuntimeError, match=r"listen\(\) in the middle of a step"):
        workers.listen(Heard())
