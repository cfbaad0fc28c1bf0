"""What every exported probe keeps: read only, a result that is JSON, an error for what is missing.

A new probe is picked up from ``largebatch.probes.__all__`` and needs one line in POINTS, STEPS or
RUNS that says how to call it.
"""

import dataclasses
import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import largebatch as lb
from largebatch import probes
from largebatch.contracts import Listener

SHARE, COUNT = 6, 4
# What probes are made from, or return, but are none.
PARTS = {"gradient", "untouched", "LossFn", "cosine_between"}


class Net(nn.Module):
    """Every kind of state that a look can change; a frozen layer, a mode of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(4, 8), nn.BatchNorm1d(8)
        self.drop, self.still = nn.Dropout(0.5), nn.BatchNorm1d(8)
        self.frozen, self.last = nn.Linear(8, 8), nn.Linear(8, 3)
        self.frozen.requires_grad_(False)
        self.still.eval()

    def forward(self, x):
        hidden = self.drop(self.norm(self.first(x)).tanh())
        return self.last(self.still(self.frozen(hidden)))


class Scene:
    """A network in training, its data, its workers."""

    def __init__(self, count: int = COUNT) -> None:
        torch.manual_seed(3)
        self.model = Net()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.workers = lb.Workers(self.model, self.optimizer, lb.RNC(0.1), count=count)
        self.x, self.y = torch.randn(SHARE * count, 4), torch.randint(3, (SHARE * count,))

    @property
    def batch(self):
        return self.x, self.y

    def loss(self, x, y):
        return nn.functional.cross_entropy(self.model(x), y)

    def step(self) -> None:
        self.workers.backward(self.loss, *self.batch)
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        kept = self.optimizer.state_dict()["state"]
        return {
            "weights": {n: p.detach().clone() for n, p in self.model.named_parameters()},
            "buffers": {n: b.clone() for n, b in self.model.named_buffers()},
            "gradients": [(id(p.grad), clone(p.grad)) for p in self.model.parameters()],
            "modes": [m.training for m in self.model.modules()],
            "requires": [p.requires_grad for p in self.model.parameters()],
            "optimizer": [clone(v) for each in kept.values() for v in each.values()],
            "random": torch.get_rng_state(),
            "recording": torch.is_grad_enabled(),
            "step": self.workers.step,
        }


def clone(tensor):
    return None if tensor is None else tensor.clone()


# Of a point: called at weights that have just been stepped.
POINTS: dict[str, Callable[[Scene], object]] = {
    "gradient_cosine": lambda s: probes.gradient_cosine(
        s.model, s.loss, s.batch, [p.grad for p in s.model.parameters() if p.requires_grad]
    ),
}


def listens(probe: Any) -> Callable[[Scene], Any]:
    def attach(scene: Scene) -> Any:
        scene.workers.listen(probe())
        return list(scene.workers._settings.heard_by.values())[-1]

    return attach


def hooks(probe: Callable[[Scene], Any]) -> Callable[[Scene], Any]:
    def attach(scene: Scene) -> Any:
        made = probe(scene)
        made.attach(scene.optimizer)
        return made

    return attach


# Of steps: attached to a training, and then asked for the result.
STEPS: dict[str, Callable[[Scene], Any]] = {
    "BlockNorms": listens(probes.BlockNorms),
    "NoiseScale": listens(lambda: probes.NoiseScale(SHARE, geometry=("sign", "spectral"))),
    "PathSmoothness": hooks(lambda s: probes.PathSmoothness(s.model, s.loss, s.batch)),
    "UpdateSize": hooks(lambda s: probes.UpdateSize(s.model)),
}
# Of a run: numbers alone.
RUNS: dict[str, Callable[[], object]] = {
    "relaxed_smoothness": lambda: probes.relaxed_smoothness([1.0, 1.5, 3.0], [0.0, 1.0, 2.0]),
}
# Which need more than one worker, or places of several: how they are called with one, or none.
ALONE: dict[str, Callable[[], object]] = {
    "NoiseScale": lambda: Scene(count=1).workers.listen(probes.NoiseScale()),
}


def exported() -> set[str]:
    found = {name: getattr(probes, name) for name in probes.__all__}
    calls = {name for name, each in found.items() if callable(each)}
    return {name for name in calls if not dataclasses.is_dataclass(found[name])} - PARTS


def test_every_exported_probe_is_in_one_table():
    tables = [set(POINTS), set(STEPS), set(RUNS)]
    listed = set().union(*tables)
    assert exported() - listed == set(), "say how to call each exported probe, in its kind's table"
    assert listed - exported() == set(), "the table has what is not exported"
    assert sum(map(len, tables)) == len(listed)
    assert set(STEPS) == {name for name in exported() if inspect.isclass(getattr(probes, name))}
    assert set(ALONE) <= listed


def same(a: Any, b: Any) -> bool:
    """Whether two nests are equal, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def differing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [key for key in before if not same(before[key], after[key])]


def check_row(result: object) -> None:
    """A frozen dataclass of numbers, texts, lists and nested ones of them."""
    assert dataclasses.is_dataclass(result)
    assert type(result).__dataclass_params__.frozen
    row = dataclasses.asdict(result)
    assert row
    json.dumps(row)

    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(type(k) is str and plain(v) for k, v in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or type(value) in (int, float, str, bool)

    assert [name for name, value in row.items() if not plain(value)] == []
    if "layers" in row:
        assert row["layers"]
        assert all(type(name) is str for name in row["layers"])


@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize("recording", [True, False])
def test_a_look_at_a_point_leaves_all_as_it_was(name, recording):
    scene = Scene()
    scene.step()
    with torch.set_grad_enabled(recording):
        before = scene.state()
        result = POINTS[name](scene)
        assert differing(before, scene.state()) == []
    check_row(result)
    if "layers" in dataclasses.asdict(result):
        assert result.layers == [n for n, p in scene.model.named_parameters() if p.requires_grad]


@pytest.mark.parametrize("name", POINTS)
def test_a_look_at_a_point_says_the_same_twice(name):
    scene = Scene()
    scene.step()
    assert str(POINTS[name](scene)) == str(POINTS[name](scene))


@pytest.mark.parametrize("name", STEPS)
def test_training_with_a_probe_ends_in_the_same_bits(name):
    plain, probed = Scene(), Scene()
    torch.manual_seed(5)
    for _ in range(3):
        plain.step()
    probe = STEPS[name](probed)
    torch.manual_seed(5)
    for _ in range(3):
        probed.step()
    before = probed.state()
    check_row(probe.result())
    assert differing(before, probed.state()) == []
    expected = plain.state()
    ours, theirs = ([g for _, g in each.pop("gradients")] for each in (before, expected))
    assert differing(expected, before) == []
    assert same(ours, theirs)


@pytest.mark.parametrize("name", STEPS)
def test_a_probe_of_steps_says_that_it_has_heard_nothing(name):
    scene = Scene()
    probe = STEPS[name](scene)
    with pytest.raises(RuntimeError, match=f"{name} has (heard|measured) no step"):
        probe.result()


@pytest.mark.parametrize("name", STEPS)
def test_a_probe_of_steps_is_a_listener_or_attaches(name):
    probe = STEPS[name](Scene())
    assert isinstance(probe, Listener) != hasattr(probe, "attach")


@pytest.mark.parametrize("name", RUNS)
def test_a_probe_of_a_run_changes_nothing_but_says_a_row(name):
    state = torch.get_rng_state()
    check_row(RUNS[name]())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", ALONE)
def test_one_worker_is_refused_by_name(name):
    with pytest.raises(ValueError, match=r"needs at least (2|two) workers"):
        ALONE[name]()
