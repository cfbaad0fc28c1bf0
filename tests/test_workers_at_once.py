"""Workers whose passes run as one end where the same workers one after another do."""

import pytest
import torch
from torch import nn

import largebatch as lb

COUNT = 7

PERTURBATIONS = {
    "none": None,
    "GNC": lb.GNC(2.0),
    "GNC-plain": lb.GNC(2.0, "plain"),
    "RNC": lb.RNC(0.5),
    "permuted": lb.MatchedNoise(2.0),
    "isotropic": lb.MatchedNoise(2.0, "isotropic"),
    "past": lb.Extrapolation(0.3, "past"),
    "noise": lb.Extrapolation(0.02, "noise"),
    "eigen": lb.EigenNoise(0.1, k=1),
    "switch": lb.Switch(lb.GNC(2.0), lb.RNC(0.5), at_step=2),
}


class Network(nn.Module):
    """With a tied, a frozen and an unused parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.third = nn.Conv2d(4, 4, 3, padding=1)
        self.third.weight = self.second.weight
        self.last = nn.Linear(64, 3)
        self.last.bias.requires_grad_(False)
        self.unused = nn.Linear(3, 2)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        x = self.norm(self.first(x)).tanh()
        return self.last(self.third(self.second(x).tanh()).tanh().flatten(1))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-2)


def clars(parameters):
    return lb.CLARS(parameters, lr=0.5, trust_coefficient=0.1, cap=1.0)


class Run:
    def __init__(self, at_once, perturb=PERTURBATIONS["GNC"], rule=sgd, **workers):
        torch.manual_seed(1)
        self.model = Network().double()
        self.at_once = at_once
        self.optimizer = rule([p for p in self.model.parameters() if p.requires_grad])
        self.workers = lb.Workers(self.model, self.optimizer, perturb, count=COUNT, **workers)
        self.offset = 0.0

    def loss(self, batch):
        return nn.functional.cross_entropy(self.model(batch["x"]), batch["y"])

    def batch(self, step):
        source = torch.Generator().manual_seed(step)
        x = torch.randn(COUNT * 3, 2, 4, 4, generator=source, dtype=torch.float64)
        return {"x": x, "y": torch.randint(3, (COUNT * 3,), generator=source), "name": "a batch"}

    def step(self, step, loss=None):
        if self.workers.refreshes and step % 2 == 0:
            self.workers.refresh(self.loss, self.batch(step))
        found = self.workers.backward(loss or self.loss, self.batch(step), at_once=self.at_once)
        self.offset = max(self.offset, float(self.workers.offset_to_weight_norm or 0))
        self.optimizer.step()
        return found

    def run(self, steps=4):
        self.losses = [self.step(step) for step in range(steps)]
        return self


def assert_same(ours, theirs, bound=1e-12):
    pairs = zip(ours.model.parameters(), theirs.model.parameters(), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=bound, atol=bound)
    torch.testing.assert_close(ours.losses, theirs.losses, rtol=bound, atol=bound)


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("at_once", [3, COUNT])
def test_end_where_workers_in_turn_do(name, at_once):
    # Red: a group's first worker's weights for all, a row of the wrong worker's memory, the
    # gradient of an unused parameter zero in place of none, which weight decay would move.
    ours, theirs = Run(at_once, PERTURBATIONS[name]).run(), Run(1, PERTURBATIONS[name]).run()
    assert_same(ours, theirs)
    if name != "none":
        assert theirs.offset > 0.01
        assert ours.offset == pytest.approx(theirs.offset, rel=1e-6)
    assert ours.model.unused.weight.grad is None


@pytest.mark.parametrize(
    "options",
    [
        {"rule": clars},
        {"noise_dtype": torch.bfloat16},
        {"gradient_noise": lb.AnnealedNoise(0.1)},
        {"rule": clars, "perturb": lb.RNC(0.5), "gradient_noise": lb.AnnealedNoise(0.1)},
    ],
    ids=["a listener", "bfloat16", "gradient noise", "both"],
)
def test_with_what_else_workers_do(options):
    # bfloat16 may round a last bit of a gradient to its other side.
    bound = 1e-3 if "noise_dtype" in options else 1e-12
    assert_same(Run(3, **options).run(), Run(1, **options).run(), bound)


def test_losses_that_add_up():
    runs = [Run(at_once, reduction="sum") for at_once in (3, 1)]
    for run in runs:
        run.losses = [
            run.step(step, lambda batch, run=run: run.loss(batch) / COUNT) for step in range(4)
        ]
    assert_same(*runs)
    assert_same(runs[0], Run(1).run())


def test_a_scaler_and_an_overflow():
    runs = []
    for at_once in (3, 1):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        run = Run(at_once, scaler=scaler)
        run.losses = []
        for step in range(5):
            blow = 1e308 if step == 2 else 1.0
            found = run.workers.backward(
                lambda batch, run=run, blow=blow: run.loss(batch) * blow,
                run.batch(step),
                at_once=at_once,
            )
            run.losses += [found] if step != 2 else []
            before = run.model.first.weight.clone()
            scaler.step(run.optimizer)
            scaler.update()
            assert torch.equal(run.model.first.weight, before) == (step == 2)
        runs.append(run)
    assert_same(*runs)


def test_a_group_is_one_call():
    run = Run(3)
    for calls in (1 + 2, 3, 3):  # the first worker of the first step says what the loss reaches
        run.model.calls = 0
        run.step(0)
        assert run.model.calls == calls
    run.model.first.requires_grad_(False)
    run.model.calls = 0
    run.step(0)
    assert run.model.calls == 3


def test_a_parameter_that_thaws_is_noticed():
    runs = [Run(at_once).run(2) for at_once in (3, 1)]
    for run in runs:
        run.model.last.bias.requires_grad_(True)
        run.optimizer.add_param_group({"params": [run.model.last.bias]})
        run.run(3)
    assert_same(*runs)
    assert runs[0].model.last.bias.grad is not None


def test_bfloat16_autocast():
    runs = []
    for at_once in (3, 1):
        run = Run(at_once)
        run.model.float()

        def loss(batch, run=run):
            with torch.autocast("cpu", torch.bfloat16):
                return run.loss({**batch, "x": batch["x"].float()})

        run.losses = [run.step(step, loss) for step in range(3)]
        runs.append(run)
    assert_same(*runs, bound=2e-2)


def test_dropout_differs_among_workers():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 1)).double()
    workers = lb.Workers(model, sgd(model.parameters()), lb.Extrapolation(0.1, "past"), count=4)
    x = torch.ones(4, 8, dtype=torch.float64)
    for _ in range(2):
        workers.backward(lambda x: model(x).sum(), x, at_once=4)
    slots = workers.state_dict()["slots"][0]
    assert len({tuple(slot.tolist()) for slot in slots}) > 1


def made(*layers, perturb=PERTURBATIONS["GNC"]):
    model = nn.Sequential(*layers).double()
    return model, lb.Workers(model, sgd(model.parameters()), perturb, count=4)


def test_refuses_by_name():
    x = torch.randn(8, 3, dtype=torch.float64)
    model, workers = made(nn.Linear(3, 2), nn.BatchNorm1d(2))
    with pytest.raises(TypeError, match=r"running statistics \('1'\)"):
        workers.backward(lambda x: model(x).sum(), x, at_once=2)
    model[1].eval()
    workers.backward(lambda x: model(x).sum(), x, at_once=2)
    model, workers = made(nn.Linear(3, 2), perturb=lb.SAM())
    with pytest.raises(TypeError, match=r"one pass, but SAM\(.*\) looks before it runs"):
        workers.backward(lambda x: model(x).sum(), x, at_once=2)
    model, workers = made(torch.compile(nn.Linear(3, 2), backend="eager"))
    with pytest.raises(TypeError, match="not compiled"):
        workers.backward(lambda x: model(x).sum(), x, at_once=2)
    model, workers = made(nn.Linear(3, 2))
    for wrong in (0, -1, 2.0, True, None):
        with pytest.raises(ValueError, match="at_once must be a whole number of workers"):
            workers.backward(lambda x: model(x).sum(), x, at_once=wrong)
    with pytest.raises(ValueError, match="looks on no other"):
        workers.backward(lambda x: model(x).sum(), x, inner=(x,), at_once=2)
    with pytest.raises(ValueError, match="cannot share a batch of 7"):
        workers.backward(lambda x: model(x).sum(), x[:7], at_once=2)
    with pytest.raises(ValueError, match="one number in a tensor"):
        workers.backward(lambda x: model(x), x, at_once=2)


def test_refuses_parameters_that_are_not_the_models():
    model = nn.Linear(3, 2).double()
    more = nn.Parameter(torch.ones(2, dtype=torch.float64))
    workers = lb.Workers(model, sgd([*model.parameters(), more]), lb.GNC(1.0), count=4)
    x = torch.randn(8, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="all parameters in training to be the model's"):
        workers.backward(lambda x: (model(x) * more).sum(), x, at_once=2)


def test_what_cannot_be_mapped_says_so_and_leaves_clean_weights():
    model, workers = made(nn.Linear(3, 2))
    x = torch.randn(8, 3, dtype=torch.float64)
    workers.backward(lambda x: model(x).sum(), x, at_once=2)
    before = model[0].weight.clone()
    with pytest.raises(RuntimeError) as found:
        workers.backward(lambda x: model(x).sum() * float(x.sum().item()), x, at_once=2)
    assert "leave it out, and workers run one after another" in found.value.__notes__[0]
    assert torch.equal(model[0].weight, before)
    assert workers.step == 1
    workers.backward(lambda x: model(x).sum() * float(x.sum().item()), x)
    assert workers.step == 2
