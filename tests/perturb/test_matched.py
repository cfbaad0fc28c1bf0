"""Matched noise: GNC's sizes exactly, its directions not at all."""

import math

import pytest
import torch

import largebatch as lb
from largebatch.contracts import Point

ALPHA, ETA, WORKERS = 0.7, 0.3, 5
SHAPES = [(4, 6), (3, 2, 3, 3), (7,), (1, 5), (6, 1), ()]


def problem(count=WORKERS, shapes=SHAPES, dtype=torch.float64, seed=0):
    """Weights, and noise of each worker that sums to zero, unequal in size."""
    source = torch.Generator().manual_seed(seed)
    weights = [torch.randn(s, generator=source, dtype=torch.float64).to(dtype) for s in shapes]
    draws = [
        [torch.randn(s, generator=source, dtype=torch.float64) * (i + 1) for s in shapes]
        for i in range(count)
    ]
    means = [torch.stack(each).mean(0) for each in zip(*draws, strict=True)]
    memories = [[(d - m).to(dtype) for d, m in zip(w, means, strict=True)] for w in draws]
    return weights, memories


def offsets(method, weights, memories, step=0):
    """A list for each worker."""
    rates = [ETA] * len(weights)
    point = Point(
        step, weights, lambda kind: rates, workers=len(memories), memories=lambda: memories
    )
    return [method.offsets(point, i, memory) for i, memory in enumerate(memories)]


def gnc(scaling, weights, memories):
    """Haruki et al., Eq. 4 and 6, a filter a row; None where nothing moves."""
    found = []
    for memory in memories:
        made = []
        for w, omega in zip(weights, memory, strict=True):
            rows = omega.double().reshape(1, -1)
            if scaling == "filter":
                if w.ndim < 2:
                    made.append(None)
                    continue
                rows = omega.double().flatten(1) * w.double().flatten(1).norm(dim=1, keepdim=True)
            made.append(-ALPHA * ETA * rows)
        found.append(made)
    return found


def compare(method, dtype=torch.float64):
    """Pairs of (workers, filters, coordinates): the method's offsets and GNC's."""
    weights, memories = problem(dtype=dtype)
    ours, theirs = offsets(method, weights, memories), gnc(method.scaling, weights, memories)
    for place, weight in enumerate(weights):
        expected = [each[place] for each in theirs]
        if expected[0] is None:
            assert all(each[place] is None for each in ours)
            continue
        assert all(each[place].dtype == dtype for each in ours)
        assert all(each[place].shape == weight.shape for each in ours)
        theirs_ = torch.stack(expected)
        yield torch.stack([o[place].double() for o in ours]).view_as(theirs_), theirs_


scalings = pytest.mark.parametrize("scaling", ["filter", "plain"])
kinds = pytest.mark.parametrize("kind", ["permuted", "isotropic"])


@kinds
@scalings
def test_sums_to_zero_over_workers(kind, scaling):
    # Red: a permutation of each worker's own; draws that are not centred.
    for ours, _ in compare(lb.MatchedNoise(ALPHA, kind, scaling)):
        assert ours.sum(0).abs().max() < 1e-13 * max(1.0, ours.abs().max())
        assert ours.abs().max() > 1e-2


@scalings
def test_permuted_has_every_norm_and_the_gram_matrix_of_gnc(scaling):
    # Red: signs of another size, coordinates drawn with replacement, one order a worker.
    for ours, theirs in compare(lb.MatchedNoise(ALPHA, "permuted", scaling)):
        torch.testing.assert_close(ours.norm(dim=2), theirs.norm(dim=2), rtol=1e-12, atol=0)
        gram, expected = (each.transpose(0, 1) @ each.permute(1, 2, 0) for each in (ours, theirs))
        torch.testing.assert_close(gram, expected, rtol=1e-11, atol=1e-13)
        magnitudes = [each.abs().sort(dim=2).values for each in (ours, theirs)]
        torch.testing.assert_close(*magnitudes, rtol=1e-12, atol=0)


@scalings
def test_isotropic_has_the_root_mean_square_norm_of_gnc(scaling):
    # Red: a mean of norms, norms before the draws are centred, one filter's size for another.
    for ours, theirs in compare(lb.MatchedNoise(ALPHA, "isotropic", scaling)):
        sizes = [each.square().sum(2).mean(0).sqrt() for each in (ours, theirs)]
        torch.testing.assert_close(*sizes, rtol=1e-12, atol=0)


@kinds
def test_halves_keep_the_sizes_up_to_their_rounding(kind):
    for ours, theirs in compare(lb.MatchedNoise(ALPHA, kind), torch.bfloat16):
        sizes = [each.square().sum(2).mean(0).sqrt() for each in (ours, theirs)]
        torch.testing.assert_close(*sizes, rtol=8e-3, atol=0)


def test_sizes_of_halves_are_not_themselves_rounded_to_halves():
    # Red: squares, means over workers or draws in bfloat16, each off by up to 0.4%.
    weights, memories = problem(16, [(32, 1024)], torch.bfloat16)
    made = [
        torch.stack([each[0].double() for each in offsets(method, weights, memories)])
        for method in (lb.MatchedNoise(ALPHA, "isotropic"), lb.GNC(ALPHA))
    ]
    sizes = [each.square().sum(2).mean(0).sqrt() for each in made]
    torch.testing.assert_close(*sizes, rtol=3e-4, atol=0)


N, COORDINATES = 4000, 6


def placed(method):
    """Where each coordinate of a filter goes and with what sign, in N steps: (N, from, to)."""
    weights = [torch.ones(1, COORDINATES, dtype=torch.float64)]
    memory = [torch.arange(1.0, COORDINATES + 1, dtype=torch.float64).view(1, -1)]
    size = ALPHA * ETA * math.sqrt(COORDINATES)
    rows = [offsets(method, weights, [memory, memory], step)[0][0] for step in range(N)]
    found = torch.cat(rows) / size
    places = torch.zeros(N, COORDINATES, COORDINATES, dtype=torch.float64)
    return places.scatter_(
        1, found.abs().round().long().unsqueeze(1) - 1, found.sign().unsqueeze(1)
    )


def test_every_signed_permutation_is_as_likely_as_any_other():
    # Red: the identity, a shift, a rotation by a random number of places, signs alone, no signs.
    signed = placed(lb.MatchedNoise(ALPHA, "permuted", seed=5))
    hits = signed.abs()
    assert (hits.sum(1) == 1).all()
    assert (hits.sum(2) == 1).all()
    # Each counts N draws of probability 1/6; 4.5 standard deviations, 36 of them.
    share, spread = 1 / COORDINATES, math.sqrt((1 / 6) * (5 / 6) / N)
    assert (hits.mean(0) - share).abs().max() < 4.5 * spread
    assert signed.mean(0).abs().max() < 4.5 * math.sqrt(share / N)
    # Two coordinates go to two places independently of each other: 1/30, a shift's would be 1/6.
    pairs = torch.einsum("nij,nkl->ijkl", hits, hits) / N
    for i in range(COORDINATES):
        for k in range(COORDINATES):
            if i != k:
                apart = pairs[i, :, k, :][~torch.eye(COORDINATES, dtype=torch.bool)]
                assert (apart - 1 / 30).abs().max() < 5 * math.sqrt((1 / 30) * (29 / 30) / N)
    # And so do their signs.
    signs = signed.sum(1)
    together = signs.T @ signs / N - torch.eye(COORDINATES, dtype=torch.float64)
    assert together.abs().max() < 4.5 / math.sqrt(N)


def test_filters_and_parameters_have_permutations_of_their_own():
    # Red: one order for all filters, or for all parameters of a shape.
    row = torch.arange(1.0, 41.0, dtype=torch.float64)
    weights = [torch.ones(2, 40, dtype=torch.float64)] * 2
    memory = [torch.stack([row, row])] * 2
    first, second = offsets(lb.MatchedNoise(ALPHA, "permuted"), weights, [memory] * 2)[0]
    rows = [*first, *second]
    for i, a in enumerate(rows):
        assert not any(torch.equal(a.abs(), b.abs()) for b in rows[:i])


@pytest.mark.parametrize("name", ["seed", "step"])
@kinds
def test_another_seed_or_step_draws_anew(name, kind):
    weights, memories = problem()
    one = offsets(lb.MatchedNoise(ALPHA, kind), weights, memories)
    seed, step = (1, 0) if name == "seed" else (0, 1)
    other = offsets(lb.MatchedNoise(ALPHA, kind, seed=seed), weights, memories, step)
    assert not torch.equal(one[0][0], other[0][0])
    again = offsets(lb.MatchedNoise(ALPHA, kind), weights, memories)
    assert torch.equal(one[0][0], again[0][0])


def test_isotropic_favours_no_direction_and_no_worker():
    # Red: uniform in place of Gaussian keeps the covariance; a direction, a worker, a coordinate
    # that is favoured does not; nor does one draw for all workers.
    count, shape, steps = 3, (1, 4), 6000
    weights, memories = problem(count, [shape])
    method = lb.MatchedNoise(ALPHA, "isotropic", seed=3)
    draws = torch.stack(
        [torch.cat([o[0] for o in offsets(method, weights, memories, t)]) for t in range(steps)]
    )  # (steps, workers, coordinates)
    assert not any(torch.equal(draws[0, 0], draws[0, i]) for i in (1, 2))
    theirs = torch.cat([row for (row,) in gnc("filter", weights, memories)])
    square = theirs.square().sum(1).mean().item()  # of the norm, mean over workers
    unit = draws / math.sqrt(square)
    each = 1 / 4  # a coordinate's variance, each worker's: three workers and four coordinates alike
    assert unit.mean(0).abs().max() < 4.5 * math.sqrt(each / steps)
    flat = unit.flatten(1)
    found = flat.T @ flat / steps
    # cov(worker i, worker j) = (delta_ij - 1/3)*(3/2)/4 per coordinate, 0 between coordinates.
    between = (torch.eye(count, dtype=torch.float64) - 1 / count) * count / (count - 1)
    expected = torch.kron(between, torch.eye(4, dtype=torch.float64)) * each
    assert (found - expected).abs().max() < 5 * each * math.sqrt(2 / steps)


def test_isotropic_directions_are_gaussian():
    # E sum u^4 of a direction u in three dimensions: 3/5 for a Gaussian, about 0.57 for a cube's.
    count, filters = 64, 300
    weights, memories = problem(count, [(filters, 3)])
    made = offsets(lb.MatchedNoise(ALPHA, "isotropic"), weights, memories)
    rows = torch.cat([o[0] for o in made])
    unit = rows / rows.norm(dim=1, keepdim=True)
    assert unit.pow(4).sum(1).mean().item() == pytest.approx(0.6, abs=0.006)


@kinds
def test_in_training_it_moves_from_the_second_step_by_gncs_size(kind, network, batches, loss_of):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=ETA)
    workers = lb.Workers(model, optimizer, lb.MatchedNoise(ALPHA, kind), count=4)
    first, second = batches(2, 8)
    for x, y in workers.shards(*first):
        clean = [p.detach().clone() for p in model.parameters()]
        with workers.next():
            assert all(torch.equal(p, c) for p, c in zip(model.parameters(), clean, strict=True))
            loss_of(model)(x, y).backward()
    workers.combine()
    (slots,) = workers.state_dict()["slots"]
    sizes = [p.numel() for p in model.parameters()]
    weights = [p.detach().clone() for p in model.parameters()]
    pairs = [
        [piece.view(p.shape) for piece, p in zip(row.split(sizes), weights, strict=True)]
        for row in slots
    ]
    expected = gnc("filter", weights, pairs)
    moved = []
    for x, y in workers.shards(*second):
        with workers.next():
            moved.append((model[3].weight - weights[2]).detach())
            loss_of(model)(x, y).backward()
    workers.combine()
    found = torch.stack(moved)
    theirs = torch.stack([each[2] for each in expected])
    torch.testing.assert_close(
        found.square().sum(2).mean(0), theirs.square().sum(2).mean(0), rtol=1e-9, atol=1e-15
    )
    if kind == "permuted":
        torch.testing.assert_close(found.norm(dim=2), theirs.norm(dim=2), rtol=1e-9, atol=1e-15)
    assert found.sum(0).abs().max() < 1e-14
    assert (found - theirs).abs().max() > 1e-3 * theirs.abs().max()


def test_mean_over_workers_sees_all_of_them_and_none_at_first(network, batches, loss_of):
    # Red: only the worker that runs, slots of one worker repeated, those overwritten by this
    # step's gradients, an empty mean that is an error.
    seen = []

    class Spy(lb.Perturbation):
        def remembers(self, step):
            return "gradient"

        def offsets(self, point, worker, memory):
            if point.step < 2 or worker:
                mean = point.mean_over_workers("size", lambda m: [g.abs() for g in m])
                seen.append((point.workers, mean))
            return [None] * len(point.weights)

    model = network()
    workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.1), Spy(), count=3)
    data = batches(2, 6)
    for x, y in data:
        workers.backward(loss_of(model), x, y)
    assert seen[:3] == [(3, [])] * 3
    pieces = zip(data[0][0].chunk(3), data[0][1].chunk(3), strict=True)
    own = [torch.autograd.grad(loss_of(model)(x, y), list(model.parameters())) for x, y in pieces]
    assert len(seen) == 6
    for count, means in seen[3:]:
        assert count == 3
        for mean, each in zip(means, zip(*own, strict=True), strict=True):
            torch.testing.assert_close(mean, torch.stack(each).abs().mean(0))
    with pytest.raises(RuntimeError, match="for each worker, the first included"):
        workers.backward(loss_of(model), *data[0])


def test_zero_noise_and_zero_filters_stay_zero():
    weights, memories = problem()
    weights[0][0] = 0.0
    for kind in ("permuted", "isotropic"):
        made = offsets(lb.MatchedNoise(ALPHA, kind), weights, memories)
        assert all((each[0][0] == 0).all() for each in made)
        none = [[torch.zeros_like(m) for m in memory] for memory in memories]
        made = offsets(lb.MatchedNoise(ALPHA, kind), weights, none)
        assert all((o == 0).all() for each in made for o in each if o is not None)


def test_refuses_arguments():
    with pytest.raises(ValueError, match="MatchedNoise needs 0 <= alpha"):
        lb.MatchedNoise(-1)
    with pytest.raises(ValueError, match="kind='permuted' or 'isotropic', got 'other'"):
        lb.MatchedNoise(1, "other")
    with pytest.raises(ValueError, match="seed of 64 signed bits"):
        lb.MatchedNoise(1, seed=2**63)
