"""Every perturbation, gradient noise and rule in one process, with what loops use besides."""

import pytest
import torch
from every_method import NOISES, PERTURBATIONS, ROWS, RULES, Row, exported, kinds_of, passes
from naive_step import Naive
from torch import nn

import largebatch as lb
from largebatch.contracts import GradientNoise

COUNT, SIZE, STEPS = 4, 16, 12
REFRESHED = 5  # steps
OVERFLOW, MARK = 6, 12.5  # a step, and what an example says that makes its worker's loss overflow
criterion = nn.functional.cross_entropy


def test_every_exported_method_has_a_row():
    rules = kinds_of(rule for rule, _ in RULES.values()) - {torch.optim.SGD, torch.optim.AdamW}
    assert kinds_of(PERTURBATIONS.values()) == exported(lb.Perturbation)
    assert kinds_of(NOISES.values()) == exported(GradientNoise)
    assert rules == exported(torch.optim.Optimizer)
    assert {*PERTURBATIONS, *NOISES, *RULES} == set(ROWS)


class Run:
    """A loop over Workers, which sees the loss anew every so many steps where it must."""

    def __init__(self, model: nn.Module, row: Row, **workers) -> None:
        self.model = self.called = model
        self.optimizer = row.rule(list(model.parameters()))
        self.workers = lb.Workers(
            model, self.optimizer, row.perturb, count=COUNT, gradient_noise=row.noise, **workers
        )
        self.offsets = torch.zeros(())

    def loss(self, x, y):
        loss = criterion(self.called(x), y)
        return loss * torch.inf if (x == MARK).any() else loss

    def refresh(self, x, y) -> None:
        if self.workers.refreshes and self.workers.step % REFRESHED == 0:
            # What is compiled has no second backward pass.
            exact = getattr(self.workers.perturb, "method", "exact") == "exact"
            called = self.model if exact else self.called
            self.workers.refresh(lambda x, y: criterion(called(x), y), *of_refresh(x, y))

    def backward(self, x, y) -> None:
        self.refresh(x, y)
        self.workers.backward(self.loss, x, y)
        self.look()

    def by_hand(self, x, y) -> None:
        """An accumulation loop of one's own."""
        self.refresh(x, y)
        shards = list(zip(x.chunk(COUNT), y.chunk(COUNT), strict=True))
        for place in passes(self.workers.perturb, self.workers.step, COUNT):
            with self.workers.next():
                self.loss(*shards[place]).backward()
        self.workers.combine()
        self.look()

    def look(self) -> None:
        if self.workers.offset_to_weight_norm is not None:
            self.offsets = torch.maximum(self.offsets, self.workers.offset_to_weight_norm)

    def run(self, data, clip: float = 0.0) -> "Run":
        for x, y in data:
            self.backward(x, y)
            if clip:
                nn.utils.clip_grad_norm_(self.model.parameters(), clip)
            self.optimizer.step()
        return self


def of_refresh(x, y):
    return x[: SIZE // COUNT], y[: SIZE // COUNT]


def naive(model, row, data, clip=0.0):
    run = Naive(model, row, COUNT, criterion, clip)
    for step, (x, y) in enumerate(data):
        if step % REFRESHED == 0:
            run.refresh(*of_refresh(x, y))
        run.train(x, y)
    return run


def distance(one, other):
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return max(float((p - q).detach().abs().max()) for p, q in pairs)


def assert_same(one, other, bound=1e-10):
    torch.testing.assert_close(
        one.model.state_dict(), other.model.state_dict(), rtol=bound, atol=bound
    )


def assert_shows(run, plain):
    """What the row is about moves the weights that a run ends at."""
    assert run.offsets > 0.01
    assert distance(run, plain) > 1e-3


@pytest.mark.parametrize("row", ROWS)
def test_plain(row, network, batches):
    # Red: another worker's memory, or its gradient in place of its noise; weights that stay where
    # a worker looked, noise of another step, statistics of the last worker.
    data, row = batches(STEPS, SIZE), ROWS[row]
    ours = Run(network(norm=True), row).run(data)
    assert_shows(ours, Run(network(norm=True), row.without()).run(data))
    assert_same(ours, naive(network(norm=True), row, data))


@pytest.mark.parametrize("row", ROWS)
def test_accumulation(row, network, batches):
    # Red: an order of passes of `shards` that is not the step's, a last worker that must be said.
    data, row = batches(STEPS, SIZE), ROWS[row]
    ours, theirs = (Run(network(norm=True), row) for _ in range(2))
    for x, y in data:
        ours.by_hand(x, y)
        ours.optimizer.step()
    theirs.run(data)
    for one, other in zip(*(r.model.state_dict().values() for r in (ours, theirs)), strict=True):
        assert torch.equal(one, other)
    assert ours.offsets > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_clipping(row, network, batches):
    # Red: clipped gradients in what is remembered, noise on the gradient after the clipping.
    name, data, row = row, batches(STEPS, SIZE), ROWS[row]
    ours = Run(network(), row).run(data, clip=0.1)
    assert_shows(ours, Run(network(), row.without()).run(data, clip=0.1))
    if name != "PercentDelta":  # by a share of the weights, whatever the gradient's size
        assert distance(ours, Run(network(), row).run(data)) > 1e-4
    assert_same(ours, naive(network(), row, data, clip=0.1))


def overflowing(batches):
    """One worker's loss overflows in one step."""
    data = batches(STEPS, SIZE)
    data[OVERFLOW][0][-1, 0, 0, 0] = MARK
    return data


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_grad_scaler(row, network, batches):
    # Red: the loss scale in what is remembered, looked at or listened to; a step that is left out
    # and whose noise is kept, or joins the weights.
    data, row = overflowing(batches), ROWS[row]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=4)
    ours, theirs = Run(network(), row, scaler=scaler), Run(network(), row)
    for step, (x, y) in enumerate(data):
        for run in (ours, theirs):
            run.backward(x, y)
        before = [p.detach().clone() for p in ours.model.parameters()]
        scaler.step(ours.optimizer)
        scaler.update()
        if step == OVERFLOW:
            now = ours.model.parameters()
            assert all(torch.equal(p, q) for p, q in zip(now, before, strict=True))
            assert all((slots == 0).all() for slots in ours.workers.state_dict()["slots"])
        else:
            theirs.optimizer.step()
    assert scaler.get_scale() == 2.0**11  # doubled, halved and doubled
    assert_same(ours, theirs)
    plain = Run(network(), row.without())
    for step, (x, y) in enumerate(data):
        plain.backward(x, y)
        if step != OVERFLOW:
            plain.optimizer.step()
    assert_shows(ours, plain)


class Autocast(nn.Module):
    """Runs a model in bfloat16."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.model(x).float()


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_autocast(row, network, batches):
    """Bound 1e-5, of float32 weights: sums that are taken alike are rounded alike."""
    # Red: a worker on weights that another had cast, arithmetic of ours that is rounded too.
    data, row = batches(STEPS, SIZE, torch.float32), ROWS[row]
    ours = Run(Autocast(network(torch.float32)), row)
    for x, y in data:
        with torch.autocast("cpu", torch.bfloat16):  # around them all: casts would live on
            ours.backward(x, y)
        ours.optimizer.step()
    assert_shows(ours, Run(Autocast(network(torch.float32)), row.without()).run(data))
    assert distance(ours, Run(network(torch.float32), row).run(data)) > 1e-4
    assert_same(ours, naive(Autocast(network(torch.float32)), row, data), 1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("row", ROWS)
def test_compile(row, network, batches):
    # Red: a graph that holds the weights of an earlier worker.
    data, row = batches(STEPS, SIZE), ROWS[row]
    torch._dynamo.reset()
    ours = Run(network(norm=True), row)
    ours.called = torch.compile(ours.model, backend="aot_eager")
    theirs = Run(network(norm=True), row).run(data)
    assert_shows(theirs, Run(network(norm=True), row.without()).run(data))
    assert_same(ours.run(data), theirs)
