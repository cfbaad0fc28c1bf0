"""What WorkersCallback refuses, before a fit has done any work."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.strategies import (
    DeepSpeedStrategy,
    FSDPStrategy,
    SingleDeviceXLAStrategy,
)
from lightning_task import Net, loader, trainer

import largebatch as lb
from largebatch.integrations.lightning import WorkersCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
]

GNC = lb.GNC(alpha=1.0)


class Untouched(Net):
    def training_step(self, batch: Any, batch_idx: int) -> None:
        raise AssertionError("refused too late")


def fit(callback: WorkersCallback, net: Net | None = None, **options: Any) -> None:
    options = {"callbacks": [callback], "accumulate_grad_batches": 4, **options}
    trainer(**options).fit(net or Untouched(), loader(4))


@pytest.mark.parametrize("name", ["model", "optimizer", "count", "scaler", "reduction"])
def test_what_the_trainer_knows_is_not_an_option(name: str):
    with pytest.raises(TypeError, match=f"takes no {name}=: .* its accumulate_grad_batches"):
        WorkersCallback(GNC, **{name: 4})


def test_an_option_that_workers_does_not_have():
    with pytest.raises(TypeError, match="takes the options of Workers, got alpha="):
        WorkersCallback(alpha=0.1)


@pytest.mark.parametrize("every", [0, 1.5, True])
def test_refresh_every_is_a_number_of_steps(every: Any):
    with pytest.raises(ValueError, match="whole number of steps of at least 1, got"):
        WorkersCallback(lb.EigenNoise(rho=0.1), refresh_every=every)


def test_one_worker_in_all():
    note = "(?s)at least 2 workers in all, got count=1.*the Trainer's accumulate_grad_batches"
    with pytest.raises(ValueError, match=note):
        fit(WorkersCallback(GNC), accumulate_grad_batches=1)
    epochs = GradientAccumulationScheduler({1: 4})  # and 1 in epoch 0
    with pytest.raises(ValueError, match=note):
        fit(WorkersCallback(GNC), callbacks=[epochs, WorkersCallback(GNC)])


def test_lightning_refuses_two_of_them():
    with pytest.raises(RuntimeError, match="more than one stateful callback"):
        fit(WorkersCallback(GNC), callbacks=[WorkersCallback(GNC), WorkersCallback()])


def test_manual_optimization():
    net = Untouched()
    net.automatic_optimization = False
    with pytest.raises(TypeError, match=r"automatic optimization only: .* use largebatch.Workers"):
        fit(WorkersCallback(GNC), net, accumulate_grad_batches=1)


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (FSDPStrategy, "FSDPStrategy: train on one .*, or with ModelParallelStrategy and fully_sh"),
        (DeepSpeedStrategy, "DeepSpeedStrategy: train"),
        (SingleDeviceXLAStrategy, "SingleDeviceXLAStrategy: train"),
    ],
)
def test_strategies_that_hide_workers(strategy: Any, said: str):
    callback = WorkersCallback(GNC)
    # Most cannot be made without their hardware.
    made = SimpleNamespace(callbacks=[callback], strategy=strategy.__new__(strategy))
    with pytest.raises(TypeError, match=f"does not support {said}"):
        callback.setup(made, Untouched(), "fit")
    callback.setup(made, Untouched(), "validate")


FRESH = lb.Extrapolation(inner_lr=0.1)
REFUSED: list[Any] = [
    (lb.SAM(rho=0.1), TypeError, r"SAM\(.*all 4 micro-batches .* take per_worker=True"),
    (lb.Switch(GNC, lb.SAM(rho=0.1), at_step=9), TypeError, "all 4 micro-batches"),
    (FRESH, TypeError, r"Extrapolation\(.*other examples than the worker's own"),
    (lb.Switch(FRESH, GNC, at_step=9), TypeError, "other examples than the worker's own"),
    (lb.EigenNoise(rho=0.1), ValueError, r"EigenNoise\(.*refresh_every=100"),
]


@pytest.mark.parametrize(("perturb", "kind", "said"), REFUSED)
def test_methods_that_the_loop_has_no_place_for(perturb: Any, kind: Any, said: str):
    with pytest.raises(kind, match=said):
        fit(WorkersCallback(perturb))


def test_an_optimizer_that_must_see_the_loss():
    with pytest.raises(ValueError, match="the optimizer needs to see the loss"):
        fit(WorkersCallback(), Untouched(partial(lb.CBLR, diagonal="hessian")))


def test_a_loss_that_is_left_out_cannot_be_looked_at():
    class Nothing(Net):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            return None

    with pytest.raises(RuntimeError, match=r"must return a loss .* got NoneType"):
        fit(WorkersCallback(lb.SAM(rho=0.1, per_worker=True)), Nothing())


def test_a_micro_batch_left_out_after_it_was_looked_at():
    class Second(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.calls = getattr(self, "calls", 0) + 1
            return None if self.calls == 4 else super().training_step(batch, batch_idx)

    with pytest.raises(RuntimeError, match=r"None after SAM\(.* had looked"):
        fit(WorkersCallback(lb.SAM(rho=0.1, per_worker=True)), Second())
