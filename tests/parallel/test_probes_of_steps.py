"""Probes of steps over DDP and FSDP2 say what they say of the same workers in one process."""

import functools
import sys
from dataclasses import asdict

import pytest
import torch

import largebatch as lb
from largebatch.probes import BlockNorms, PathSmoothness, UpdateSize

STEPS = 4
KINDS = ("sign", "spectral")


def same(ours: dict, theirs: dict) -> None:
    for name, each in theirs.items():
        if (
            name == "layer_signal_to_noise"
        ):  # of a bias ahead of batch norm rounding is all there is
            kept = [j for j, layer in enumerate(theirs["layers"]) if layer != "first.bias"]
            ours[name], each = ([ratios[j] for j in kept] for ratios in (ours[name], each))
        if each is None or name == "layers":
            assert ours[name] == each
        else:
            assert ours[name] == pytest.approx(each, rel=1e-6, abs=1e-12, nan_ok=True), name


def heard(run, geometry, weights=None) -> list[dict]:
    """The results of every probe after some steps."""
    module = run.module
    whole, block = lb.NoiseScale(4, decay=0.5, geometry=geometry), BlockNorms()
    moved = UpdateSize(module)
    moved.attach(run.optimizer)
    for probe in (whole, lb.NoiseScale(4, every=2), block):
        run.workers.listen(probe)
    for step in range(STEPS):
        step_of(run, step, weights)
        run.optimizer.step()
    every = list(run.workers._settings.heard_by.values())[1]
    return [asdict(each.result()) for each in (whole, every, block, moved)]


def step_of(run, step, weights) -> None:
    """By hand where workers weigh differently: each has as many examples as its weight says."""
    batch = run.mine(*run.batch(step))
    if weights is None:
        run.workers.backward(run.loss, *batch)
        return
    first = run.rank * run.count
    for i, shard in enumerate(zip(*(each.chunk(run.count) for each in batch), strict=True)):
        with run.workers.next(weight=weights[first + i]):
            run.loss(*shard).backward()
    run.workers.combine()


def compare(kind: str, count: int, weights=None, geometry=()) -> None:
    import meshes
    import replicas

    sgd = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    if kind == "ddp":
        ours = replicas.Run(sgd, None, count, over=True)
    else:
        cut = kind != "replicas"
        network = replicas.network(norm=not cut)
        ours = meshes.run_over(kind, sgd, None, count, cut=cut, model=network)
    norm = kind in ("ddp", "replicas")
    alone = replicas.Run(
        sgd, None, ours.ranks * count, over=False, model=replicas.network(norm=norm)
    )
    found, expected = heard(ours, geometry, weights), heard(alone, geometry, weights)
    for one, other in zip(found, expected, strict=True):
        same(one, other)
    assert expected[0]["steps"] == STEPS
    assert expected[1]["steps"] == STEPS // 2
    assert expected[0]["batch_size"] == 4 * (sum(weights) if weights else alone.count)


def refuse_geometry(kind: str) -> None:
    import meshes

    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    run = meshes.run_over(kind, sgd, None, 2)
    run.workers.listen(lb.NoiseScale(geometry=["sign"]))
    with pytest.raises(ValueError, match=r"geometry=.* needs whole parameters, but .* cut"):
        run.workers.backward(run.loss, *run.mine(*run.batch(0)))


def refuse_one_worker() -> None:
    import meshes

    run = meshes.run_over("shards", functools.partial(torch.optim.SGD, lr=0.1), None, 1)
    with pytest.raises(ValueError, match="NoiseScale needs at least 2 workers in all, got 1"):
        run.workers.listen(lb.NoiseScale())


def refuse_path(kind: str) -> None:
    import meshes

    run = meshes.run_over(kind, functools.partial(torch.optim.SGD, lr=0.1), None, 1)
    probe = PathSmoothness(run.module, run.loss, run.batch(0))
    probe.attach(run.optimizer)
    with pytest.raises(TypeError, match=r"PathSmoothness needs whole parameters, but .* is cut"):
        run.step(0)


CASES = {
    "ddp-2": functools.partial(compare, "ddp", 2, geometry=KINDS),
    "ddp-1": functools.partial(compare, "ddp", 1, geometry=KINDS),
    "ddp-weights": functools.partial(compare, "ddp", 2, weights=[1.0, 2.0, 5.0, 0.5]),
    "replicas-2": functools.partial(compare, "replicas", 2),
    "replicas-weights": functools.partial(compare, "replicas", 1, weights=[1.0, 3.0]),
    "shards-4": functools.partial(compare, "shards", 4),
    "geometry-refused": functools.partial(refuse_geometry, "shards"),
    "one-refused": refuse_one_worker,
    "path-refused": functools.partial(refuse_path, "shards"),
}
FOUR = {"both-1": functools.partial(compare, "both", 1)}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_as_in_one_process(case, outcomes):
    # Red: this process's workers alone, the mean for the sum over processes, halves of each
    # process's own, squares of pieces.
    outcomes(case, "all")


@pytest.mark.slow
@pytest.mark.parametrize("case", FOUR)
def test_so_of_replicas_in_pieces(case, outcomes):
    outcomes(case, "four", processes=4)


if __name__ == "__main__":
    import replicas

    replicas.main({"all": CASES, "four": FOUR}[sys.argv[4]])
