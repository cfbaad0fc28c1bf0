"""Optimizers that listen to workers, or want to see the loss: what Workers tell them."""

import pytest
import torch

import largebatch as lb


class Listens(torch.optim.SGD):
    """Writes down what it is told."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.told = []

    def saw(self, worker, parameters, gradients, *, factor, weight):
        self.told.append(("saw", worker, [g.clone() for g in gradients], factor, weight))

    def combined(self, gradients, *, factor):
        self.told.append(("combined", [g.clone() for g in gradients], factor))

    def forget(self):
        self.told.append(("forget",))


class Looks(torch.optim.SGD):
    """Evaluates the loss when it is shown."""

    refreshes = True

    def refresh(self, fn, *batch):
        self.seen = fn(*batch)


def test_an_optimizer_hears_each_worker_and_then_the_mean(network, batches, loss_of):
    model = network()
    listens = Listens(model.parameters(), lr=0.1)
    [(x, y)] = batches(1, 8)
    workers = lb.Workers(model, listens, perturb=lb.GNC(alpha=0.1), count=2)
    workers.backward(loss_of(model), x, y)
    assert [each[0] for each in listens.told] == ["saw", "saw", "combined"]
    assert [each[1] for each in listens.told[:2]] == [0, 1]
    first, second, mean = (each[-3] if each[0] == "saw" else each[1] for each in listens.told)
    for a, b, g in zip(first, second, mean, strict=True):
        torch.testing.assert_close((a + b) / 2, g)


@pytest.mark.parametrize("per_worker", [False, True])
def test_an_optimizer_hears_of_passes_that_count_only(per_worker, network, batches, loss_of):
    # Red: told of what was looked at, which would be twice the workers at the clean weights.
    model = network()
    listens = Listens(model.parameters(), lr=0.1)
    workers = lb.Workers(model, listens, lb.SAM(0.3, per_worker=per_worker), count=2)
    own = []
    for x, y in workers.shards(*batches(1, 8)[0]):
        before = len(listens.told)
        with workers.next() as worker:
            loss = loss_of(model)(x, y)
            loss.backward()
            if worker.counts:
                own.append([p.grad.clone() for p in model.parameters()])
        assert len(listens.told) == before + worker.counts
    workers.combine()
    assert [each[0] for each in listens.told] == ["saw", "saw", "combined"]
    assert [each[1] for each in listens.told[:2]] == [0, 1]
    for told, gradients in zip(listens.told, own, strict=False):
        assert all(torch.equal(a, b) for a, b in zip(told[2], gradients, strict=True))


def test_it_is_told_that_a_step_is_forgotten(network, batches, loss_of):
    model = network()
    listens = Listens(model.parameters(), lr=0.1)
    [(x, y)] = batches(1, 8)
    workers = lb.Workers(model, listens, count=2)
    with workers.next():
        loss_of(model)(x, y).backward()
    next(workers.shards(x, y))
    assert [each[0] for each in listens.told] == ["saw", "forget"]


def test_the_loss_is_shown_and_leaves_no_trace(network, batches, loss_of):
    # Red: running statistics that moved, gradients dropped.
    model = network(norm=True)
    looks = Looks(model.parameters(), lr=0.1)
    [(x, y)] = batches(1, 8)
    workers = lb.Workers(model, looks, count=2)
    workers.backward(loss_of(model), x, y)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters()]
    assert workers.refreshes
    workers.refresh(loss_of(model), x, y)
    assert looks.seen.item() > 0
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    torch.testing.assert_close([p.grad for p in model.parameters()], gradients, rtol=0, atol=0)


def test_statistics_stay_where_showing_fails(network, batches):
    model = network(norm=True)
    workers = lb.Workers(model, Looks(model.parameters(), lr=0.1), count=2)
    [(x, _)] = batches(1, 8)
    before = {k: v.clone() for k, v in model.state_dict().items()}

    def fails(x):
        model(x)
        raise ValueError("no loss")

    with pytest.raises(ValueError, match="no loss"):
        workers.refresh(fails, x)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_nothing_is_evaluated_where_nothing_looks(network):
    model = network()
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.1), count=2)
    assert not workers.refreshes
    workers.refresh(lambda: pytest.fail("evaluated"))


def test_not_while_a_worker_runs(network):
    model = network()
    workers = lb.Workers(model, Looks(model.parameters(), lr=0.1), count=2)
    with pytest.raises(RuntimeError, match="a worker is still running"), workers.next():
        workers.refresh(lambda: None)


def test_a_probe_of_the_optimizers_steps_is_sent_to_its_attach():
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    workers = lb.Workers(model, optimizer, count=2)
    probe = lb.probes.UpdateSize(model)
    with pytest.raises(TypeError, match=r"instead, probe\.attach\(optimizer\)"):
        workers.listen(probe)
    probe.attach(optimizer).remove()
