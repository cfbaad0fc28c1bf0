"""Outside of a worker's forward and backward, a LightningModule's weights are the clean ones."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning_task import Net, assert_same, distance, loader, trainer
from torch import Tensor

import largebatch as lb
from largebatch.integrations.lightning import WorkersCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
]

MICRO = 8


class Watched(Net):
    """Keeps the weights as the optimizer left them, and counts where others are seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, list[bool]] = {}
        self.note_step()

    def note_step(self, *args: Any) -> None:
        self.clean = [p.detach().clone() for p in self.parameters()]

    def see(self, where: str) -> None:
        pairs = zip(self.clean, self.parameters(), strict=True)
        self.seen.setdefault(where, []).append(all(torch.equal(c, p) for c, p in pairs))

    def configure_optimizers(self) -> Any:
        made = super().configure_optimizers()
        made["optimizer"].register_step_post_hook(self.note_step)
        return made

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        self.see("training_step")
        return super().training_step(batch, batch_idx)

    def backward(self, loss: Tensor) -> None:
        self.see("backward")
        super().backward(loss)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.see("validation_step")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.see("on_train_batch_start")

    def on_after_backward(self) -> None:
        self.see("on_after_backward")

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.see("on_before_optimizer_step")

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        self.see("lr_scheduler_step")
        super().lr_scheduler_step(scheduler, metric)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.see("on_train_batch_end")

    def on_save_checkpoint(self, checkpoint: Any) -> None:
        saved = checkpoint["state_dict"]
        pairs = zip(self.clean, self.named_parameters(), strict=True)
        same = all(torch.equal(c, saved[name]) for c, (name, _) in pairs)
        self.seen.setdefault("on_save_checkpoint", []).append(same)


class SaveAlways(Callback):
    def __init__(self, path: Any) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        trainer.save_checkpoint(self.path)


@pytest.mark.filterwarnings("ignore:a checkpoint in the middle of a step")
def test_only_a_worker_sees_other_weights(tmp_path):
    net = Watched()
    callbacks = [WorkersCallback(lb.GNC(alpha=1.0)), SaveAlways(tmp_path / "some.ckpt")]
    made = trainer(callbacks=callbacks, accumulate_grad_batches=4, val_check_interval=3)
    made.fit(net, loader(MICRO), loader(1))
    for inside in ("training_step", "backward"):
        # At the first step nothing is remembered yet.
        assert net.seen[inside] == [True] * 4 + [False] * (3 * MICRO - 4), inside
    outside = net.seen.keys() - {"training_step", "backward"}
    assert outside == {
        "on_train_batch_start",
        "on_after_backward",
        "on_before_optimizer_step",
        "lr_scheduler_step",
        "on_train_batch_end",
        "on_save_checkpoint",
        "validation_step",
    }
    for where in outside:
        assert all(net.seen[where]), where
    assert len(net.seen["validation_step"]) == 1 + 3 * 2  # the sanity check, and within groups


class StopAfter(Callback):
    def __init__(self, batches: int) -> None:
        self.batches = batches

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        trainer.should_stop = trainer.fit_loop.epoch_loop.total_batch_idx + 1 >= self.batches


@pytest.mark.filterwarnings("ignore:a checkpoint in the middle of a step")
def test_a_fit_that_stops_within_a_group_leaves_clean_weights(tmp_path):
    net, callback = Watched(), WorkersCallback(lb.GNC(alpha=1.0))
    made = trainer(callbacks=[callback, StopAfter(6)], accumulate_grad_batches=4, max_epochs=2)
    made.fit(net, loader(MICRO), loader(1))
    assert callback.workers is not None
    assert callback.workers.step == 1
    assert len(net.seen["training_step"]) == 6
    net.see("after")
    made.save_checkpoint(tmp_path / "last.ckpt")
    assert net.seen["after"] == net.seen["on_save_checkpoint"] == [True]


class Failing(Watched):
    """Raises in the sixth micro-batch of the second epoch, where asked to."""

    where = ""

    def fail(self, where: str) -> None:
        at = (self.trainer.current_epoch, self.trainer.fit_loop.batch_idx)
        if self.where == where and at == (1, 5):
            raise ZeroDivisionError(where)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        loss = super().training_step(batch, batch_idx)
        self.fail("training_step")
        return loss

    def on_before_backward(self, loss: Tensor) -> None:
        self.fail("on_before_backward")

    def backward(self, loss: Tensor) -> None:
        super().backward(loss)
        self.fail("backward")

    def on_after_backward(self) -> None:
        self.fail("on_after_backward")


@pytest.mark.parametrize(
    "where", ["training_step", "on_before_backward", "backward", "on_after_backward"]
)
def test_an_exception_leaves_clean_weights_and_the_loop_as_it_was(where: str):
    net = Failing()
    net.where = where
    callback = WorkersCallback(lb.GNC(alpha=1.0))
    made = trainer(callbacks=[callback], accumulate_grad_batches=4)
    with pytest.raises(ZeroDivisionError, match=where):
        made.fit(net, loader(MICRO), loader(1))
    net.see("after")
    assert net.seen["after"] == [True]
    assert "training_step" not in vars(made.strategy)
    assert callback.workers is not None
    callback.workers.forget()  # no worker is running
    net.where = ""
    made.fit(net, loader(MICRO), loader(1))


def test_an_interrupted_fit_leaves_clean_weights():
    class Interrupted(Watched):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
            if self.trainer.current_epoch == 1:
                raise KeyboardInterrupt
            return super().training_step(batch, batch_idx)

    net = Interrupted()
    made = trainer(callbacks=[WorkersCallback(lb.GNC(alpha=1.0))], accumulate_grad_batches=4)
    with pytest.raises(SystemExit):
        made.fit(net, loader(MICRO), loader(1))
    net.see("after")
    assert net.seen["after"] == [True]


@pytest.mark.filterwarnings("ignore:SWA is currently only supported every epoch")
def test_averaged_weights_get_running_statistics_of_their_own():
    # Red: a worker in the passes without a backward pass, which nobody leaves.
    def fit(*workers: WorkersCallback) -> Net:
        averaging = StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1, annealing_epochs=1)
        made = trainer(max_epochs=4, callbacks=[*workers, averaging])
        net = Net()
        made.fit(net, loader(MICRO))
        return net

    # With one micro-batch a step, so that batch norm's statistics are Lightning's own.
    assert_same(fit(WorkersCallback()), fit())
    assert distance(fit(WorkersCallback(lb.RNC(alpha=1.0))), fit()) > 1e-3
