"""A Trainer that goes on from a checkpoint ends where the uninterrupted one does, bit for bit."""

import shutil
import warnings

import pytest
import torch
import trainer_runs as runs

import largebatch as lb

SHUFFLED = {"train_sampling_strategy": "random", "save_strategy": "steps", "save_steps": 4}


def run(folder, resume=None, perturb=runs.PERTURB, clip=0.0):
    model = runs.language()
    trainer = runs.trainer(
        model, runs.data(9), {"perturb": perturb}, folder=folder, max_grad_norm=clip, **SHUFFLED
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def identical(one, other):
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return all(torch.equal(p, q) for p, q in pairs)


@pytest.mark.parametrize(
    "perturb",
    [runs.PERTURB, lb.RNC(alpha=0.5), lb.Extrapolation(inner_lr=0.3, kind="past")],
    ids=["GNC", "RNC", "past"],
)
def test_resumes_to_the_bit(perturb, tmp_path):
    # Step 4 is in the middle of the second epoch. Red: no state written or read, or another's.
    whole = run(tmp_path, perturb=perturb, clip=0.5)
    resumed = run(tmp_path, str(tmp_path / "checkpoint-4"), perturb, clip=0.5)
    assert resumed.state.global_step == whole.state.global_step == 9
    assert identical(resumed, whole)
    ours, theirs = whole.workers.state_dict(), resumed.workers.state_dict()
    assert ours["step"] == theirs["step"] == 9
    assert all(map(torch.equal, ours["slots"], theirs["slots"]))


def test_a_checkpoint_that_was_saved_without_workers(tmp_path):
    whole = run(tmp_path)
    folder = tmp_path / "checkpoint-4"
    (folder / "workers_0.pt").unlink()
    with pytest.warns(UserWarning, match=r"workers_0.pt is not there .* starts from zero"):
        resumed = run(tmp_path / "again", str(folder))
    # The noise of the fifth step is missing, and no more: random numbers know which step it is.
    assert resumed.workers.step == 9
    assert 0 < runs.distance(resumed.model, whole.model) < 0.1


def test_another_accumulation_starts_the_noise_from_zero(tmp_path):
    run(tmp_path)
    trainer = runs.trainer(
        runs.language(), runs.data(10), folder=tmp_path, gradient_accumulation_steps=5, **SHUFFLED
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert any("the state is of 3 workers, there are 5 now" in str(each.message) for each in said)


def test_only_the_model_is_saved_where_only_that_is_wanted(tmp_path):
    runs.trainer(
        runs.language(), runs.data(9), folder=tmp_path, save_only_model=True, **SHUFFLED
    ).train()
    assert (tmp_path / "checkpoint-4" / "model.safetensors").is_file()
    assert not (tmp_path / "checkpoint-4" / "workers_0.pt").exists()


def test_a_torn_file_is_an_error(tmp_path):
    run(tmp_path)
    folder = shutil.copytree(tmp_path / "checkpoint-4", tmp_path / "torn")
    state = folder / "workers_0.pt"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(RuntimeError, match="zip archive"):
        run(tmp_path, str(folder))
