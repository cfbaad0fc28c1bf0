"""A fit that was interrupted and resumed ends at the uninterrupted one's bits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning_task import SIZE, Net, digits, distance, trainer

import largebatch as lb
from largebatch.integrations.lightning import WorkersCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
]

MICRO = 10  # groups of 4, 4 and 2


class Batches:
    """A loader that says where it is, as a resume within an epoch needs."""

    def __init__(self) -> None:
        self.given = 0

    def __len__(self) -> int:
        return MICRO

    def __iter__(self) -> Iterator[Any]:
        x, y = digits(MICRO).tensors
        for i in range(self.given % MICRO, MICRO):
            self.given = i + 1
            yield x[i * SIZE : (i + 1) * SIZE], y[i * SIZE : (i + 1) * SIZE]

    def state_dict(self) -> dict[str, Any]:
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.given = state["given"]


class SaveAfter(Callback):
    """Saves a checkpoint after so many micro-batches."""

    def __init__(self, batches: int, path: Path) -> None:
        self.batches, self.path = batches, path

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx + 1 == self.batches:
            trainer.save_checkpoint(self.path)


def fit(perturb: lb.Perturbation, *more: Callback, path: Path | None = None, **options: Any):
    net, callback = Net(), WorkersCallback(perturb, **options)
    made = trainer(callbacks=[callback, *more], accumulate_grad_batches=4)
    made.fit(net, Batches(), ckpt_path=path, weights_only=None if path is None else True)
    assert callback.workers is not None
    return net, callback.workers


OPTIONS: list[Any] = [
    (lb.GNC(alpha=1.0), {}),
    (lb.GNC(alpha=1.0), {"gradient_noise": lb.AnnealedNoise(eta=0.05)}),
    (lb.RNC(alpha=1.0), {}),
    (lb.Extrapolation(inner_lr=0.5, kind="past"), {}),
    (lb.EigenNoise(rho=0.3, k=1), {"refresh_every": 4}),
]


@pytest.mark.parametrize("batches", [14, 20], ids=["within an epoch", "at its end"])
@pytest.mark.parametrize(("perturb", "options"), OPTIONS)
def test_a_resumed_fit_ends_at_the_same_bits(perturb, options, batches, tmp_path):
    path = tmp_path / "some.ckpt"
    whole, workers = fit(perturb, SaveAfter(batches, path), **options)
    resumed, again = fit(perturb, path=path, **options)
    for name, each in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], each), name
    assert again.step == workers.step == 9
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["callbacks"]["WorkersCallback"]
    torch.save(checkpoint, path)
    without, _ = fit(perturb, path=path, **options)
    assert distance(without, whole) > 1e-5


def test_a_number_of_micro_batches_that_has_changed_is_there_on_resume(tmp_path):
    path = tmp_path / "some.ckpt"

    def of_epochs(*more: Callback, **options: Any) -> tuple[Net, WorkersCallback]:
        net, callback = Net(), WorkersCallback(lb.GNC(alpha=1.0))
        schedule = GradientAccumulationScheduler({0: 5, 1: 2})
        trainer(callbacks=[callback, schedule, *more]).fit(net, Batches(), **options)
        return net, callback

    class SaveAfterEpoch(Callback):
        def on_train_epoch_end(self, trainer: Any, *args: Any) -> None:
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(path)

    whole, _ = of_epochs(SaveAfterEpoch())
    again, callback = of_epochs(ckpt_path=path)
    for p, q in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)
    assert callback.workers is not None
    assert callback.workers.step == 2 + 5 + 5


def test_a_checkpoint_within_a_group_has_no_noise_and_says_so(tmp_path):
    path = tmp_path / "some.ckpt"
    with pytest.warns(UserWarning, match="in the middle of a step of 4 micro-batches"):
        fit(lb.GNC(alpha=1.0), SaveAfter(13, path))
    (state,) = torch.load(path, weights_only=True)["callbacks"]["WorkersCallback"]["ranks"]
    assert state["step"] == 3
    assert state["slots"] == []
    _, workers = fit(lb.GNC(alpha=1.0), path=path)
    assert workers.step == 9


def test_one_without_anything_to_lose_does_not(tmp_path):
    path = tmp_path / "some.ckpt"
    fit(lb.RNC(alpha=1.0), SaveAfter(13, path))
    _, workers = fit(lb.RNC(alpha=1.0), path=path)
    assert workers.step == 9


def test_another_number_of_micro_batches_starts_without_noise_and_says_so(tmp_path):
    path = tmp_path / "some.ckpt"
    fit(lb.GNC(alpha=1.0), SaveAfter(10, path))
    made = trainer(callbacks=[WorkersCallback(lb.GNC(alpha=1.0))], accumulate_grad_batches=5)
    with pytest.warns(UserWarning, match="the state is of 4 workers, there are 5 now"):
        made.fit(Net(), Batches(), ckpt_path=path)


def test_a_checkpoint_written_after_the_fit_has_the_state(tmp_path):
    callback = WorkersCallback(lb.GNC(alpha=1.0))
    made = trainer(callbacks=[callback], accumulate_grad_batches=4, max_epochs=1)
    made.fit(Net(), Batches())
    made.save_checkpoint(tmp_path / "last.ckpt")
    found = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]["WorkersCallback"]
    assert found["ranks"][0]["step"] == 3
    assert found["ranks"][0]["slots"]
    # Before its first step a resumed fit has the state that it was given.
    resumed = WorkersCallback(lb.GNC(alpha=1.0))
    assert resumed.state_dict() == {}
    resumed.load_state_dict(found)
    assert resumed.state_dict() == found
