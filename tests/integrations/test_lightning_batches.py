"""A batch-size schedule in Lightning, as docs/batch-schedules.md says to use it."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning_task import SIZE, Batch, Net, digits, sgd, trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

import largebatch as lb
from largebatch.batching import BatchSizeSchedule, Stages
from largebatch.integrations.lightning import WorkersCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before"),
]

GNC = lb.GNC(alpha=1.0)
DATA = digits(32)  # 512 images


class Growing(Net):
    """The batch grows with the epochs, and the rate with the batch."""

    stages = Stages({0: SIZE, 1: 2 * SIZE, 1.5: 8 * SIZE}, key="epochs")
    micro_batch: int | None = None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.sizes = [*getattr(self, "sizes", []), len(batch[0])]
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = sgd(self.parameters())
        falls = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
        self.schedule = BatchSizeSchedule(optimizer, self.stages, base_batch=SIZE, scheduler=falls)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.schedule, "interval": "step"},
        }

    def train_dataloader(self) -> DataLoader:
        more = {} if self.micro_batch is None else {"micro_batch": self.micro_batch}
        return DataLoader(DATA, batch_sampler=self.schedule.sampler(len(DATA), seed=0, **more))


class InMicroBatches(Growing):
    stages = Stages({0: 2 * SIZE, 1: 4 * SIZE}, key="epochs")
    micro_batch = SIZE


class Save(Callback):
    def __init__(self, step: int, path: Any) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def by_hand(net: Growing) -> Growing:
    optimizer = net.configure_optimizers()["optimizer"]
    loader = net.train_dataloader()
    for _ in range(3):
        for batch in loader:
            optimizer.zero_grad()
            net.training_step(batch, 0).backward()
            optimizer.step()
            net.schedule.step()
    return net


def test_the_batch_grows_and_a_resumed_fit_goes_on_within_an_epoch(tmp_path):
    path = tmp_path / "some.ckpt"
    net, theirs, again = Growing(), by_hand(Growing()), Growing()
    trainer(callbacks=[Save(40, path)]).fit(net)
    assert net.sizes == theirs.sizes
    assert set(net.sizes) == {SIZE, 2 * SIZE, 8 * SIZE}
    trainer().fit(again, ckpt_path=path)
    assert again.sizes == net.sizes[40:]
    for p, q, r in zip(*(n.parameters() for n in (net, theirs, again)), strict=True):
        assert torch.equal(p, q)
        assert torch.equal(p, r)


def test_workers_grow_with_the_batch_at_whole_epochs():
    net, theirs = InMicroBatches(), InMicroBatches()
    callback = WorkersCallback(GNC)
    trainer(callbacks=[GradientAccumulationScheduler({0: 2, 1: 4}), callback]).fit(net)
    optimizer = theirs.configure_optimizers()["optimizer"]
    workers = lb.Workers(theirs, optimizer, GNC, count=2, reduction="sum")
    loader, group = theirs.train_dataloader(), []
    for _ in range(3):
        for batch in loader:
            group.append(batch)
            if len(group) == theirs.schedule.micro_batches:
                workers.count = len(group)
                for each in group:
                    with workers.next(last=each is group[-1]):
                        (theirs.training_step(each, 0) / len(group)).backward()
                workers.combine()
                optimizer.step()
                theirs.schedule.step()
                group.clear()
    assert workers.step == 16 + 8 + 8
    for p, q in zip(net.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-10)


@pytest.fixture
def one_process_group(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Takes down what Lightning's strategy sets up for good."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    yield
    torch.distributed.destroy_process_group()


def test_lightnings_own_sampler_is_refused(one_process_group):
    made = trainer(strategy="ddp", devices=1)
    with pytest.raises(TypeError, match=r"can't inject a \(distributed\) sampler"):
        made.fit(Growing())
