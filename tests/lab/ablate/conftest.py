"""Ablations of the tiny task, in this process and without a display."""

import sys
from contextlib import contextmanager

import pytest

from largebatch.lab.ablate import ablate, ablation_for
from largebatch.lab.setup import load_task

SMALL = {
    "rates": 2, "alphas": 1, "widenings": 0, "tuning_seeds": 1, "pilot_seeds": 2, "max_seeds": 2,
    "worker_size": 8, "epochs": 1, "looks": (),
}  # fmt: skip


@pytest.fixture
def ask(tiny):
    """An ablation of two rates, one alpha and two pairs; what is given replaces that."""
    return lambda task=tiny, **given: ablation_for("gnc", task, **(SMALL | given))


@pytest.fixture
def answer(tmp_path):
    """Runs an ablation in a folder below tmp_path; rows of results.json."""
    return lambda ablation, name="out": run(ablation, tmp_path / name)


@pytest.fixture(scope="module")
def done(tiny_text, tmp_path_factory):
    """One ablation of two epochs whose first seed looks, for all that only read it."""
    folder = tmp_path_factory.mktemp("ablation")
    (folder / "tiny_task.py").write_text(tiny_text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [p for p in sys.path if p])
        load_task.cache_clear()
        given = SMALL | {"epochs": 2, "looks": ("1epochs", "end"), "look_seeds": 1}
        rows = run(ablation_for("gnc", "tiny_task:task", **given), folder / "out")
        sys.modules.pop("tiny_task", None)
        load_task.cache_clear()
    return rows, folder / "out"


def run(ablation, out):
    @contextmanager
    def stage(title, jobs):
        yield lambda job: None

    return ablate(ablation, out, None, 1, stage)
