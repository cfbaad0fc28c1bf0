"""What a Trainer with workers refuses, by name and before any training."""

from collections import namedtuple

import pytest
import torch
import trainer_runs as runs
from transformers import Trainer

import largebatch as lb
from largebatch.integrations.huggingface import WorkersMixin

Accelerator = namedtuple("Accelerator", "distributed_type gradient_accumulation_steps")


@pytest.mark.parametrize(
    ("workers", "error", "message"),
    [
        ({"count": 4}, TypeError, r"got 'count' too: .*\(gradient_acc"),
        ({"reduction": "mean"}, TypeError, "got 'reduction' too"),
        ({"perturb": 0.1}, TypeError, "perturb must be a perturbation"),
        ({"noise_dtype": torch.int8}, ValueError, "noise_dtype must be"),
        ({"gradient_noise": 1}, TypeError, "gradient_noise must be"),
        ({"refresh_every": 0}, ValueError, "refresh_every must be a whole number of steps, got 0"),
        (lb.GNC(alpha=0.1), TypeError, "workers= must be a dict"),
    ],
)
def test_arguments_are_checked_when_the_trainer_is_made(workers, error, message, tmp_path):
    class Made(WorkersMixin, Trainer):
        pass

    with pytest.raises(error, match=message):
        Made(runs.language(), runs.arguments(tmp_path), workers=workers)


def test_one_worker_is_too_few_for_gnc(tmp_path):
    with pytest.raises(ValueError, match="at least 2 workers in all, got count=1"):
        runs.trainer(runs.language(), runs.data(2), folder=tmp_path, gradient_accumulation_steps=1)


def test_a_method_that_needs_the_loss_says_how_often(tmp_path):
    trainer = runs.trainer(
        runs.language(), runs.data(3), {"perturb": lb.EigenNoise(rho=0.1)}, folder=tmp_path
    )
    with pytest.raises(ValueError, match=r"workers=\{'refresh_every': 100\}"):
        trainer.train()


def test_the_mixin_goes_before_the_trainer():
    class Alone(WorkersMixin):
        pass

    with pytest.raises(TypeError, match=r"class MyTrainer\(WorkersMixin, Trainer\)"):
        Alone()


def test_a_trainer_that_lacks_a_method_is_no_trainer(tmp_path, monkeypatch):
    """Methods without a promise may go with a release: then nothing trains without workers."""
    monkeypatch.delattr(Trainer, "_load_optimizer_and_scheduler")
    with pytest.raises(TypeError, match=r"\['_load_optimizer_and_scheduler'\]: is transformers"):
        runs.trainer(runs.language(), runs.data(3), folder=tmp_path)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"is_deepspeed_enabled": True}, "DeepSpeed"),
        ({"is_fsdp_enabled": True}, "FSDP"),
        ({"is_distributed_loading_by_transformers": True}, "DistributedConfig"),
        ({"is_model_parallel": True}, "device_map"),
        ({"get_tp_size": lambda: 2}, "tensor parallelism"),
        ({"get_cp_size": lambda: 2}, "context parallelism"),
        ({"get_sp_size": lambda: 2}, "sequence parallelism"),
        ({"accelerator": Accelerator("DistributedType.XLA", 1)}, "accelerate's XLA"),
        ({"accelerator": Accelerator("DistributedType.NO", 4)}, "transformers before 5.23"),
    ],
)
def test_what_hides_the_workers_is_refused(changes, name, tmp_path):
    class Changed(WorkersMixin, runs.Trainer):
        def _validate_args(self):
            vars(self).update(changes)

    with pytest.raises(TypeError, match=f"WorkersMixin does not work with .*{name}"):
        Changed(runs.language(), runs.arguments(tmp_path), workers={"perturb": runs.PERTURB})


@pytest.mark.parametrize(("option", "message"), [("_n_gpu", "DataParallel"), ("optim", "lomo")])
def test_so_are_arguments_that_hide_them(option, message, tmp_path):
    class Changed(WorkersMixin, runs.Trainer):
        def _validate_args(self):
            setattr(self.args, option, {"_n_gpu": 2, "optim": "lomo"}[option])

    with pytest.raises(TypeError, match=f"WorkersMixin does not work with .*{message}"):
        Changed(runs.language(), runs.arguments(tmp_path), workers={"perturb": runs.PERTURB})
