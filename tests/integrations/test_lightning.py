"""A Lightning fit with WorkersCallback ends where the same loop over Workers does."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler, LearningRateFinder
from lightning.pytorch.plugins import MixedPrecision
from lightning_task import ByHand, Net, assert_same, distance, loader, trainer
from torch.amp.grad_scaler import GradScaler

import largebatch as lb
from largebatch.integrations.lightning import WorkersCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
]

GNC = lb.GNC(alpha=1.0)


class Descend(lb.Perturbation):
    """Looks at the end of a step along its own gradient, whose size matters."""

    def passes(self, step: int) -> Literal[1, 2]:
        return 2

    def offsets(self, point: Any, worker: int, memory: Any) -> Any:
        return [-0.3 * gradient for gradient in memory]


MICRO = 13  # micro-batches of an epoch: groups of 4, 4, 4 and 1
NOISE = lb.AnnealedNoise(eta=0.05)
ON_WEIGHTS = lb.AnnealedNoise(eta=0.01, placement="weights")

# Perturbation, rule, options of the trainer, options of Workers.
CASES: dict[str, tuple[lb.Perturbation | None, Any, dict[str, Any], dict[str, Any]]] = {
    "SGD": (GNC, None, {}, {}),
    "layer rates": (GNC, partial(lb.SNGM, lr=0.3, momentum=0.9), {}, {}),
    "a listener": (GNC, partial(lb.CLARS, lr=1.0, trust_coefficient=0.2), {}, {}),
    "clipped": (GNC, None, {"gradient_clip_val": 0.3}, {}),
    "gradient noise": (GNC, None, {"gradient_clip_val": 0.3}, {"gradient_noise": NOISE}),
    "noise on weights": (GNC, None, {}, {"gradient_noise": ON_WEIGHTS}),
    "few batches": (GNC, None, {"limit_train_batches": 6}, {}),
    "rounded noise": (GNC, None, {}, {"noise_dtype": torch.float32}),
    "RNC": (lb.RNC(alpha=1.0), None, {}, {}),
    "m-SAM": (lb.SAM(rho=0.2, per_worker=True), None, {}, {}),
    "SAM": (lb.SAM(rho=0.2), None, {"accumulate_grad_batches": 1}, {}),
    "a look": (Descend(), None, {}, {}),
    "eigenvectors": (lb.EigenNoise(rho=0.3, k=1), None, {}, {"refresh_every": 3}),
}


def batches(micro_batches: int = MICRO, dtype: torch.dtype = torch.float64) -> list[Any]:
    return [tuple(batch) for batch in loader(micro_batches, dtype)]


def fit(net: Net, callback: WorkersCallback, micro_batches: int = MICRO, **options: Any) -> Any:
    made = trainer(callbacks=[callback], **{"accumulate_grad_batches": 4, **options})
    made.fit(net, loader(micro_batches, next(net.parameters()).dtype))
    return made


def rule_of(rule: Any) -> dict[str, Any]:
    return {} if rule is None else {"rule": rule}


@pytest.mark.parametrize("case", CASES)
def test_a_fit_ends_where_the_loop_by_hand_does(case: str):
    perturb, rule, options, workers = CASES[case]
    net = Net(**rule_of(rule))
    fit(net, WorkersCallback(perturb, **workers), **options)
    count, clip = options.get("accumulate_grad_batches", 4), options.get("gradient_clip_val", 0.0)
    of_epoch = batches()[: options.get("limit_train_batches", MICRO)]
    theirs = ByHand(perturb, count, clip=clip, **rule_of(rule), **workers).run(of_epoch)
    assert_same(net, theirs.net)
    assert theirs.offsets > 0.01
    workers.pop("refresh_every", None)
    plain = ByHand(None, count, clip=clip, **rule_of(rule), **workers).run(of_epoch)
    assert distance(theirs.net, plain.net) > 1e-3


def test_without_perturbation_a_fit_is_lightnings_own():
    ours, theirs = Net(), Net()
    fit(ours, WorkersCallback(), max_epochs=1)
    trainer(accumulate_grad_batches=4, max_epochs=1).fit(theirs, loader(MICRO))
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        # Batch norm's running statistics are the workers' mean; Lightning's follow one another.
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


def test_the_number_of_micro_batches_may_change_between_epochs():
    net = Net()
    schedule = GradientAccumulationScheduler({0: 2, 1: 4})
    made = trainer(callbacks=[WorkersCallback(GNC), schedule])
    made.fit(net, loader(MICRO))
    theirs = ByHand(GNC, 2).run(batches(), epochs=1)
    theirs.workers.count = 4
    theirs.run(batches(), epochs=2)
    assert_same(net, theirs.net)


class Skipping(Net):
    """Leaves out every micro-batch of a pattern that repeats with each epoch."""

    pattern = ""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None if self.pattern[batch_idx] == "-" else super().training_step(batch, batch_idx)


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
@pytest.mark.parametrize("pattern", ["-+++", "+-++", "+++-", "+---", "----", "+++++-"])
def test_a_micro_batch_that_is_left_out_is_no_worker(pattern: str):
    net = Skipping()
    net.pattern = (pattern + "++++++++++++")[:MICRO]
    fit(net, WorkersCallback(GNC))
    of_epoch = [b if s == "+" else None for b, s in zip(batches(), net.pattern, strict=True)]
    theirs = ByHand(GNC, 4).run(of_epoch)
    assert_same(net, theirs.net)
    assert distance(theirs.net, ByHand(GNC, 4).run(batches()).net) > 1e-3


class LeavingEarly(Net):
    """Ends every epoch after its sixth micro-batch, in the middle of a group."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == 6 else None


def test_a_group_that_is_broken_off_is_forgotten():
    net = LeavingEarly()
    callback = WorkersCallback(GNC)
    fit(net, callback)
    theirs = ByHand(GNC, 4)
    for _ in range(3):
        theirs.workers.forget()
        theirs.step(batches()[:4])
        for x, y in batches()[4:6]:
            with theirs.workers.next():
                (theirs.loss(x, y) / 4).backward()
        theirs.scheduler.step()  # which Lightning does
    assert_same(net, theirs.net)


def test_bfloat16_autocast():
    net = Net(dtype=torch.float32)
    fit(net, WorkersCallback(GNC), precision="bf16-mixed")
    theirs = ByHand(GNC, 4, dtype=torch.float32)
    theirs.autocast = torch.autocast("cpu", torch.bfloat16, cache_enabled=False)
    theirs.run(batches(dtype=torch.float32))
    assert_same(net, theirs.net, 1e-5)
    assert theirs.offsets > 0.01
    full = ByHand(GNC, 4, dtype=torch.float32).run(batches(dtype=torch.float32))
    assert distance(full.net, theirs.net) > 1e-4


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("perturb", [GNC, Descend()], ids=["GNC", "a look"])
@pytest.mark.parametrize("scale", [2.0**12, 2.0**24], ids=["finite", "overflow"])
def test_a_scaler_of_the_precision_plugin_is_undone(scale: float, perturb: lb.Perturbation):
    def scaler() -> GradScaler:
        return GradScaler("cpu", init_scale=scale, growth_interval=2)

    net = Net(dtype=torch.float32)
    plugin = MixedPrecision("16-mixed", "cpu", scaler())
    clip = 0.3
    fit(net, WorkersCallback(perturb), plugins=[plugin], gradient_clip_val=clip)
    theirs = ByHand(perturb, 4, dtype=torch.float32, scaler=scaler(), clip=clip)
    theirs.autocast = torch.autocast("cpu", torch.half, cache_enabled=False)
    theirs.run(batches(dtype=torch.float32))
    assert_same(net, theirs.net, 1e-5)
    assert plugin.scaler is not None
    assert plugin.scaler.get_scale() == theirs.scaler.get_scale()
    assert (plugin.scaler.get_scale() < scale) == (scale == 2.0**24)  # steps were left out
    assert theirs.offsets > 0.01


class Logging(Net):
    calls = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.calls += 1
        self.log("calls", float(self.calls), on_step=False, on_epoch=True, reduce_fx="sum")
        return super().training_step(batch, batch_idx)


def test_a_pass_that_looks_logs_nothing():
    net = Logging()
    made = fit(net, WorkersCallback(lb.SAM(rho=0.2, per_worker=True)), 4, max_epochs=1)
    assert net.calls == 8
    assert float(made.callback_metrics["calls"]) == 2 + 4 + 6 + 8


def test_a_second_fit_starts_with_workers_of_its_own():
    net, callback = Net(), WorkersCallback(GNC)
    made = fit(net, callback, max_epochs=1)
    first = callback.workers
    made.fit_loop.max_epochs = 2
    made.fit(net, loader(MICRO))
    assert callback.workers is not first
    assert callback.workers is not None
    assert callback.workers.step == 4


def test_a_compiled_module():
    net = Net()
    compiled: Any = torch.compile(net, backend="eager")
    made = trainer(callbacks=[WorkersCallback(GNC)], accumulate_grad_batches=4)
    made.fit(compiled, loader(MICRO))
    assert_same(net, ByHand(GNC, 4).run(batches()).net)


class FindLater(LearningRateFinder):
    """Looks for a rate before the second epoch, in a loop of its own with other callbacks."""

    def on_fit_start(self, *args: Any) -> None:
        pass

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            self.lr_find(trainer, pl_module)


class Rated(Net):
    def __init__(self) -> None:
        super().__init__(partial(torch.optim.SGD, lr=0.1, momentum=0.9))
        self.lr = 0.1


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.* is deprecated")
def test_a_tuners_steps_are_no_workers(tmp_path):
    net, callback = Rated(), WorkersCallback(GNC)
    finder = FindLater(num_training_steps=5, update_attr=False, early_stop_threshold=None)
    callbacks = [callback, finder]
    options = {"accumulate_grad_batches": 4, "default_root_dir": tmp_path}
    trainer(callbacks=callbacks, **options).fit(net, loader(MICRO))
    assert finder.optimal_lr is not None
    assert callback.workers is not None
    assert callback.workers.step == 12
    assert_same(net, ByHand(GNC, 4, net.rule).run(batches()).net)


def test_a_groups_last_worker_is_known_before_it_runs(monkeypatch: pytest.MonkeyPatch):
    # So that over processes gradients are reduced while its backward pass runs.
    last: list[Any] = []
    plain = lb.Workers.next

    def spy(self: lb.Workers, weight: Any = None, last: Any = None, *, seen: Any = last) -> Any:
        seen.append(last)
        return plain(self, weight, last)

    monkeypatch.setattr(lb.Workers, "next", spy)
    fit(Net(), WorkersCallback(GNC), 5, max_epochs=1)
    assert last == [False, False, False, True, True]


@pytest.mark.slow
@pytest.mark.parametrize("alone", [False, True], ids=["beside it", "alone"])
def test_the_librarys_older_name(alone: bool):
    code = f"""
import sys
if {alone}: sys.modules["lightning"] = None
import pytorch_lightning as pl, torch
import largebatch as lb
from largebatch.integrations.lightning import WorkersCallback
class Net(pl.LightningModule):
    def __init__(self): super().__init__(); self.net = torch.nn.Linear(5, 3)
    def training_step(self, x, i): return self.net(x).square().mean()
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), lr=0.5)
callback = WorkersCallback(lb.GNC(1.0))
quiet = dict.fromkeys(
    ["logger", "enable_progress_bar", "enable_checkpointing", "enable_model_summary"], False
)
trainer = pl.Trainer(max_epochs=3, accumulate_grad_batches=2, callbacks=[callback], **quiet)
trainer.fit(Net(), torch.utils.data.DataLoader(list(torch.randn(4, 8, 5)), batch_size=None))
print(callback.workers.step, float(callback.workers.offset_to_weight_norm) > 0.01)
"""
    source = str(Path(lb.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "6 True", done.stderr
