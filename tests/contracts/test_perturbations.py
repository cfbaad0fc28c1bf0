"""What every exported perturbation keeps; a new one is picked up and needs one line below."""

import dataclasses
import io
import pickle

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch import perturb
from largebatch.contracts import Perturbation, Point

# At widths that move the small network below visibly. A new export without an entry fails
# test_every_export_has_an_entry.
ENTRIES: dict[str, list[Perturbation]] = {
    "GNC": [lb.GNC(1.0), lb.GNC(1.0, "plain")],
    "RNC": [lb.RNC(0.1, seed=7), lb.RNC(0.1, "plain", seed=7)],
    "SAM": [lb.SAM(0.2), lb.SAM(0.2, per_worker=True)],
    "EigenNoise": [lb.EigenNoise(0.2, k=2, seed=7)],
    "Extrapolation": [
        lb.Extrapolation(0.5),
        lb.Extrapolation(0.5, "past"),
        lb.Extrapolation(0.01, "noise", seed=7),
    ],
    "MatchedNoise": [
        lb.MatchedNoise(1.0, "permuted"),
        lb.MatchedNoise(1.0, "permuted", "plain", seed=7),
        lb.MatchedNoise(1.0, "isotropic", seed=7),
        lb.MatchedNoise(1.0, "isotropic", "plain"),
    ],
    "Switch": [
        lb.Switch(lb.GNC(1.0), lb.RNC(0.1), 2),
        lb.Switch(lb.RNC(0.1), lb.GNC(1.0), 1),
        lb.Switch(lb.SAM(0.2), lb.GNC(1.0), 2),
        lb.Switch(lb.EigenNoise(0.2, k=2), lb.Extrapolation(0.5), 3),
    ],
}
CASES = [each for name in perturb.__all__ for each in ENTRIES.get(name, [])]
case = pytest.mark.parametrize("method", CASES, ids=str)
count_ = pytest.mark.parametrize("count", [2, 3, 4, 5])
STEPS = 5


def test_every_export_has_an_entry():
    exported = {n for n in perturb.__all__ if issubclass(getattr(perturb, n), Perturbation)}
    assert exported == set(ENTRIES), "give each exported perturbation arguments in ENTRIES"
    for name, methods in ENTRIES.items():
        assert methods
        assert all(type(m) is getattr(perturb, name) for m in methods)


def make(method, count, dtype=torch.float32, **options):
    torch.manual_seed(1)
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)]
    model = nn.Sequential(*layers).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    return model, optimizer, lb.Workers(model, optimizer, method, count=count, **options)


def data(count, steps=STEPS, dtype=torch.float32):
    source = torch.Generator().manual_seed(2)
    for _ in range(steps):
        x = torch.randn(3 * count, 2, 4, 4, generator=source).to(dtype)
        yield x, torch.randint(3, (3 * count,), generator=source)


def train(parts, batches):
    """Train and return the trajectory: every worker's weights, then the final ones and buffers."""
    model, optimizer, workers = parts
    looked = []

    def loss(x, y):
        return nn.functional.cross_entropy(model(x).float(), y)

    for x, y in batches:
        if workers.refreshes and workers.step % 2 == 0:
            workers.refresh(loss, x, y)
        for xi, yi in workers.shards(x, y):
            kept = [p.detach().clone() for p in model.parameters()]
            with workers.next() as worker:
                here = [p.detach().clone() for p in model.parameters()]
                assert worker.counts or same(here, kept)
                looked += here if worker.counts else []
                loss(xi, yi).backward()
            assert all(torch.equal(p, k) for p, k in zip(model.parameters(), kept, strict=True))
        workers.combine()
        optimizer.step()
    return looked + [t.detach().clone() for t in model.state_dict().values()]


def shares(method, step):
    """Whether all workers follow one gradient, found together."""
    return method.passes(step) == 2 and method.scope(step) == "batch"


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@case
def test_is_a_frozen_value(method):
    twin = dataclasses.replace(method)
    assert method == twin
    assert hash(method) == hash(twin)
    assert pickle.loads(pickle.dumps(method)) == method
    name = dataclasses.fields(method)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(method, name, getattr(method, name))


@case
def test_differs_from_another_of_its_kind(method):
    others = [m for m in CASES if m is not method]
    assert all(m != method for m in others)


@case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_moves_weights_and_restores_them_to_the_bit(method, dtype):
    parts = make(method, 2, dtype)
    train(parts, data(2, dtype=dtype))  # checks after every worker
    assert parts[2].offset_to_weight_norm > 1e-4
    assert all(p.isfinite().all() and p.dtype == dtype for p in parts[0].parameters())


@case
@count_
def test_works_with_several_workers_that_look_elsewhere(method, count):
    """Each in a place of its own, unless all follow what they found together."""
    parts = make(method, count)
    looked = train(parts, data(count))
    # Six parameters a worker, the convolution's weight first; the workers of the last step.
    last = [looked[6 * (count * (STEPS - 1) + i)] for i in range(count)]
    together = shares(method, STEPS - 1)
    assert not torch.equal(last[0], parts[0][0].weight)
    for i in range(count):
        for j in range(i):
            assert torch.equal(last[i], last[j]) == together


@case
def test_is_deterministic_and_leaves_the_global_generator_alone(method):
    state = torch.get_rng_state()
    first = train(make(method, 3), data(3))
    torch.manual_seed(1234)
    torch.rand(7)
    assert same(train(make(method, 3), data(3)), first)
    torch.set_rng_state(state)
    parts = make(method, 3)
    before = torch.get_rng_state()
    train(parts, data(3))
    assert torch.equal(torch.get_rng_state(), before)


@case
@pytest.mark.parametrize("at", range(STEPS))
def test_resumed_is_uninterrupted(method, at):
    batches = list(data(2))
    whole = train(make(method, 2), batches)
    parts = make(method, 2)
    head = train(parts, batches[:at])[:-9]
    file = io.BytesIO()
    torch.save([each.state_dict() for each in parts], file)
    file.seek(0)
    other = make(method, 2)
    for each, state in zip(other, torch.load(file, weights_only=True), strict=True):
        each.load_state_dict(state)
    assert same(head + train(other, batches[at:]), whole)


@case
def test_serves_several_workers_at_once(method):
    alone = train(make(method, 2), data(2))
    one, two = make(method, 2), make(method, 2)
    mixed = []
    for x, y in data(2):
        mixed += train(one, [(x, y)])[:-9]
        train(two, [(x + 1, y)])
    mixed += [t.detach().clone() for t in one[0].state_dict().values()]
    assert same(mixed, alone)


def point_at(method, step, weights, memories):
    """A point as the step makes it: it shows what the method finds of a loss it is shown."""
    shown = None
    if method.refreshes:
        leaves = [w.clone().requires_grad_() for w in weights]
        shown = method.refresh(lambda: sum(w.pow(4).sum() for w in leaves), leaves, step)
    rates = [0.1] * len(weights)
    return Point(
        step,
        weights,
        lambda kind: rates,
        workers=len(memories),
        memories=lambda: memories,
        shown=shown,
    )


def told(method, step, memory):
    """What of a memory the method is given: what it remembers, or found in a first pass."""
    return memory if method.remembers(step) != "nothing" or method.passes(step) == 2 else None


@case
def test_offsets_fit_the_weights_and_change_nothing(method):
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(s, generator=generator) for s in [(4, 3), (4,), (2, 4, 3, 3), (0, 2)]]
    memory = [torch.randn(w.shape, generator=generator) for w in weights]
    kept = [t.clone() for t in weights + memory]
    for step in range(4):
        point = point_at(method, step, weights, [memory, memory])
        found = {}
        for worker in (0, 1, 0):
            offsets = method.offsets(point, worker, told(method, step, memory))
            assert len(offsets) == len(weights)
            copies = [None if o is None else o.clone() for o in offsets]
            for offset, before in zip(copies, found.setdefault(worker, copies), strict=True):
                assert offset is before is None or torch.equal(offset, before)
            for offset, w in zip(offsets, weights, strict=True):
                if offset is not None:
                    assert (offset.shape, offset.dtype, offset.device) == (
                        w.shape,
                        w.dtype,
                        w.device,
                    )
                    offset.add_(1.0)  # whoever gets it may write on it
        assert same(weights + memory, kept)


@case
def test_same_offsets_in_another_order_of_workers(method):
    weights = [torch.randn(4, 3), torch.randn(4)]
    memory = {i: [torch.randn(w.shape) for w in weights] for i in range(3)}
    if shares(method, 3):
        memory = dict.fromkeys(memory, memory[0])
    found = []
    for order in ((0, 1, 2), (2, 0, 1)):
        point = point_at(method, 3, weights, list(memory.values()))
        offsets = {i: method.offsets(point, i, memory[i]) for i in order}
        found.append([o for i in range(3) for o in offsets[i] if o is not None])
    assert same(*found)


@case
def test_broadcasts_over_rows_where_it_says_so(method):
    # Red: a method that says so and sums over its memory, or goes by the worker's number.
    weights = [torch.randn(4, 3), torch.randn(4), torch.randn(2, 4, 3, 3)]
    memories = [[torch.randn(w.shape) for w in weights] for _ in range(3)]
    rows = [torch.stack(each) for each in zip(*memories, strict=True)]
    for step in (step for step in range(4) if method.broadcasts(step)):
        point = point_at(method, step, weights, memories)
        together = method.offsets(point, 0, told(method, step, rows))
        for i, memory in enumerate(memories):
            alone = method.offsets(point, i, told(method, step, memory))
            assert same(
                *(
                    [o for o in each if o is not None]
                    for each in ([None if o is None else o[i] for o in together], alone)
                )
            )


@case
def test_says_how_many_workers_it_needs(method):
    if method.least_workers > 1:
        with pytest.raises(ValueError, match=f"at least {method.least_workers} workers in all"):
            make(method, method.least_workers - 1)
    assert make(method, method.least_workers)[2].count == method.least_workers


@case
def test_bytes_needed_follow_what_it_remembers(method):
    model, _, workers = make(method, 3)
    size = 4 * sum(p.numel() for p in model.parameters())
    expected = 0 if method.remembers(0) == "nothing" else 3 * size
    assert workers.bytes_needed == expected
