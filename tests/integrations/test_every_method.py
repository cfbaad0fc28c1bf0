"""Every perturbation, gradient noise and rule in every loop ends where a loop by hand does."""

from collections.abc import Callable
from typing import Any

import accelerate_loop
import lightning_task
import pytest
import torch
import trainer_runs
from accelerate.state import AcceleratorState, GradientState
from every_method import ROWS, Row
from torch import nn

from largebatch.integrations.lightning import WorkersCallback

EPOCHS = 4  # of three steps
# What looks at other examples than those of the training step that runs.
NOT_IN_LIGHTNING = {
    "SAM": "all 3 micro-batches",
    "extrapolation": "other examples than the worker's own",
}


@pytest.fixture(autouse=True)
def fresh_state() -> None:
    """Accelerate keeps what the first Accelerator of a process was made with."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def assert_same(ours: nn.Module, theirs: Any, plain: Any) -> None:
    """And what the row is about shows."""
    assert theirs.offsets > 0.01
    states = ours.state_dict(), theirs.module.state_dict()
    torch.testing.assert_close(*states, rtol=1e-10, atol=1e-10)
    assert trainer_runs.distance(theirs.module, plain.module) > 1e-3


def of_model(row: Row) -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda model: row.rule(model.parameters())


class InLightning:
    """Fits in Lightning, and in a loop by hand."""

    def __init__(self) -> None:
        self.batches = [tuple(batch) for batch in lightning_task.loader(9)]

    def fit(self, row: Row) -> nn.Module:
        net = lightning_task.Net(row.rule)
        workers = WorkersCallback(row.perturb, refresh_every=4, gradient_noise=row.noise)
        options = {"max_epochs": EPOCHS, "accumulate_grad_batches": 3}
        made = lightning_task.trainer(callbacks=[workers], **options)
        made.fit(net, lightning_task.loader(9))
        return net

    def by_hand(self, row: Row) -> Any:
        options = {"refresh_every": 4, "gradient_noise": row.noise}
        run = lightning_task.ByHand(row.perturb, 3, row.rule, **options)
        run.module = run.net
        return run.run(self.batches, EPOCHS)


lightning = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated",
)


@lightning
@pytest.mark.slow
@pytest.mark.parametrize("row", [name for name in ROWS if name not in NOT_IN_LIGHTNING])
def test_lightning(row: str):
    loop = InLightning()
    theirs, plain = (loop.by_hand(each) for each in (ROWS[row], ROWS[row].without()))
    assert_same(loop.fit(ROWS[row]), theirs, plain)


@lightning
@pytest.mark.parametrize("row", NOT_IN_LIGHTNING)
def test_lightning_refuses(row: str):
    with pytest.raises(TypeError, match=NOT_IN_LIGHTNING[row]):
        InLightning().fit(ROWS[row])


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_trainer(row: str, tmp_path):
    examples, ours, found = trainer_runs.data(9), trainer_runs.language(), ROWS[row]
    workers = {"perturb": found.perturb, "refresh_every": trainer_runs.REFRESHED}
    trainer_runs.trainer(
        ours,
        examples,
        {**workers, "gradient_noise": found.noise},
        of_model(found),
        folder=tmp_path,
        num_train_epochs=EPOCHS,
    ).train()

    def by_hand(row: Row) -> trainer_runs.Hand:
        options = {"optimizer": of_model(row), "gradient_noise": row.noise}
        model = trainer_runs.language()
        return trainer_runs.Hand(model, row.perturb, **options).run(examples, EPOCHS)

    assert_same(ours, by_hand(found), by_hand(found.without()))


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_accelerate(row: str):
    def by_hand(row: Row) -> accelerate_loop.Plain:
        return accelerate_loop.Plain(9, of_model(row), row.perturb, row.noise).run(EPOCHS)

    found = ROWS[row]
    ours = accelerate_loop.Loop(9, of_model(found), found.perturb, noise=found.noise)
    looks = found.perturb.passes(0) == 2 or ours.workers.refreshes
    (ours.run_groups if looks else ours.run)(EPOCHS)
    assert_same(ours.module, by_hand(found), by_hand(found.without()))
