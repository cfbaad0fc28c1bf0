"""Accelerate's loop with workers ends at the weights of the plain loop, in one process and two."""

import functools
import runpy
import sys
import tempfile
from pathlib import Path

import accelerate_loop as loops
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

import largebatch as lb

PARALLEL = Path(__file__).parents[1] / "parallel"


@pytest.fixture(autouse=True)
def fresh_state():
    """Accelerate keeps what the first Accelerator of a process was made with."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def compare(batches, clip=0.0, overflow=-1, make=loops.sgd, perturb=loops.PERTURB, scaler=None):
    ours = loops.Loop(batches, make, perturb, scaler).run(4, clip, overflow)
    theirs = loops.Plain(batches, make, perturb).run(4, clip, overflow)
    plain = loops.Plain(batches, make, None).run(4, clip, overflow)
    assert theirs.offsets > 0.01
    assert loops.distance(theirs, plain) > 1e-3
    assert loops.distance(ours, theirs) < 1e-10
    return ours


@pytest.mark.parametrize("batches", [9, 8], ids=["whole", "short"])
@pytest.mark.parametrize("clip", [0.0, 0.05], ids=["", "clipped"])
def test_ends_where_the_plain_loop_does(batches, clip):
    # Red: reduction "mean", for which the losses are divided once too often; an Accelerate that
    # divides a short group by its own length.
    compare(batches, clip)


def test_a_grad_scaler_and_an_overflow():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    compare(9, overflow=4, scaler=scaler)
    assert scaler.get_scale() == 2.0**11


def clars(model):
    return lb.CLARS(model.parameters(), lr=0.5, trust_coefficient=0.1)


def test_a_prepared_optimizer_is_the_optimizer_itself():
    """The wrapper hides that CLARS listens, and its scale, which GNC measures offsets in."""
    # Red: Workers that takes the wrapper for the optimizer.
    ours = compare(9, make=clars, perturb=lb.GNC(alpha=20.0))
    assert type(ours.optimizer) is not type(ours.optimizer.optimizer)


def test_an_optimizer_that_cannot_work_is_refused_in_its_wrapper():
    def make(model):
        return torch.optim.LBFGS(model.parameters())

    with pytest.raises(TypeError, match="LBFGS does not work with Workers"):
        loops.Loop(3, make)


def resumes():
    ours = loops.Loop(9).run(2)
    folder = folder_of_all(ours)
    ours.accelerator.save_state(folder)
    ours.run(2)
    resumed = loops.Loop(9)
    resumed.accelerator.load_state(folder)
    resumed.run(2)
    assert loops.distance(ours, resumed) == 0
    process = ours.accelerator.process_index
    assert (Path(folder) / f"workers_{process}.pt").is_file()


def folder_of_all(loop):
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([tempfile.mkdtemp()])[0]


def test_resumes_to_the_bit():
    # Red: Accelerate's own register_for_checkpointing (over two processes), or no state at all.
    resumes()


def over_processes():
    import replicas

    ours = compare(18)
    optimizer = ours.optimizer.optimizer
    kept = type("Trained", (), {"state": ours.module.state_dict, "optimizer": optimizer})
    replicas.assert_replicas_are_identical(kept)


def short_over_processes():
    compare(16, 0.05)


CASES = {"whole": over_processes, "short-clipped": short_over_processes, "resumes": resumes}


@functools.cache
def outcomes():
    return runpy.run_path(str(PARALLEL / "conftest.py"))["run_all"](__file__, 2)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_do_so(case):
    found = outcomes()
    said = found.get(case, found["output"])
    assert said == ["ok"] * 2, "\n".join(said)


if __name__ == "__main__":
    sys.path.insert(1, str(PARALLEL))
    import replicas
    import trainer_runs

    trainer_runs.join(*map(int, sys.argv[1:4]))
    replicas.main(CASES)
