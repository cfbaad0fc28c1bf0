"""The Trainer over two processes ends at the weights of the plain loop over the same two.

That those are one process's is shown beside the DistributedDataParallel tests.
"""

import functools
import runpy
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

import largebatch as lb
from largebatch.parallel.ddp import Replicas

pytestmark = pytest.mark.slow  # several processes, each of which imports the library first

PARALLEL = Path(__file__).parents[1] / "parallel"

# Batches of both processes, tokens averaged over processes, what differs besides.
CASES = {
    "uneven": (18, True, {}),
    "uneven-each-its-own": (18, False, {}),
    "short": (14, True, {}),
    "short-each-its-own": (14, False, {}),
    "clipped": (14, True, {"max_grad_norm": 0.05}),
    "micro-batches-alike": (14, True, {"kind": "MeanLanguage"}),
    "SAM": (14, True, {"perturb": lb.SAM(rho=0.1)}),
    "m-SAM": (14, False, {"perturb": lb.SAM(rho=0.1, per_worker=True)}),
    "compiled": (14, True, {"torch_compile": True, "torch_compile_backend": "eager"}),
    "eigen": (14, True, {"perturb": lb.EigenNoise(rho=0.1, k=1)}),
}


def compare(batches, average, more):
    import replicas
    import trainer_runs as runs

    more = dict(more)
    kind = getattr(runs, more.pop("kind", "Language"))
    perturb = more.pop("perturb", runs.PERTURB)
    workers = {"perturb": perturb, "refresh_every": runs.REFRESHED}
    options = {"ddp_backend": "gloo", "average_tokens_across_devices": average, **more}
    examples, ours = runs.data(batches), runs.language(kind)
    trainer = runs.trainer(ours, examples, workers, folder=tempfile.mkdtemp(), **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Replicas, "late", late)
        trainer.train()
    wrapped = getattr(trainer.model_wrapped, "_orig_mod", trainer.model_wrapped)
    assert isinstance(wrapped, torch.nn.parallel.DistributedDataParallel)
    even, clip = ("group" if average else "process"), more.get("max_grad_norm", 0.0)
    weigh = "alike" if kind is runs.MeanLanguage else even
    hand = runs.Hand(runs.language(kind), perturb, weigh).run(examples, clip=clip)
    plain = runs.Hand(runs.language(kind), None, weigh).run(examples, clip=clip)
    far = hand.offsets.clone()
    dist.all_reduce(far, dist.ReduceOp.MAX)
    assert far > 0.01
    assert runs.distance(hand.module, plain.module) > 1e-3
    assert runs.distance(ours, hand.module) < 1e-10
    optimizer = trainer.optimizer.optimizer
    trained = SimpleNamespace(state=ours.state_dict, optimizer=optimizer)
    replicas.assert_replicas_are_identical(trained)


def late(*arguments):
    raise AssertionError("the group's last worker was not said to be: no overlap")


def resumes():
    import trainer_runs as runs

    found = []
    folder = [tempfile.mkdtemp() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(folder)
    saved = {"save_strategy": "steps", "save_steps": 4, "train_sampling_strategy": "random"}
    for resume in (None, f"{folder[0]}/checkpoint-4"):
        model = runs.language()
        trainer = runs.trainer(model, runs.data(18), folder=folder[0], ddp_backend="gloo", **saved)
        trainer.train(resume_from_checkpoint=resume)
        found.append((model, trainer.workers.state_dict()["slots"]))
    assert {p.name for p in Path(resume).glob("workers_*")} == {"workers_0.pt", "workers_1.pt"}
    assert runs.distance(found[0][0], found[1][0]) == 0
    assert all(map(torch.equal, found[0][1], found[1][1]))
    one_file_is_missing(runs, Path(resume), saved)


def one_file_is_missing(runs, folder, saved):
    """Both start from zero, both say so, and neither waits for the other for ever."""
    dist.barrier()
    if dist.get_rank() == 1:
        (folder / "workers_1.pt").unlink()
    dist.barrier()
    trainer = runs.trainer(
        runs.language(), runs.data(18), folder=tempfile.mkdtemp(), ddp_backend="gloo", **saved
    )
    with pytest.warns(UserWarning, match="starts from zero"):
        trainer.train(resume_from_checkpoint=str(folder))
    assert trainer.workers.step == 9


def twice():
    """The second train() wraps nothing anew: the first one's workers have let go of the model."""
    import trainer_runs as runs

    trainer = runs.trainer(
        runs.language(), runs.data(6), folder=tempfile.mkdtemp(), ddp_backend="gloo"
    )
    trainer.train()
    wrapped = trainer.model_wrapped
    trainer.train()
    assert trainer.model_wrapped is wrapped
    assert trainer.workers.step == 3


def refused(option):
    import trainer_runs as runs

    options = {
        "fsdp-2": {"fsdp": True, "fsdp_config": {"fsdp_version": 2}},
        "static-graph": {"ddp_static_graph": True},
    }[option]
    error, message = (
        (ValueError, "static_graph=True reduces every backward pass")
        if option == "static-graph"
        else (TypeError, "WorkersMixin does not work with FSDP")
    )

    with pytest.raises(error, match=message):
        runs.MyTrainer(
            runs.language(),
            runs.arguments(tempfile.mkdtemp(), ddp_backend="gloo", **options),
            train_dataset=runs.data(18),
            workers={"perturb": runs.PERTURB},
        ).train()


REFUSED = ("static-graph", "fsdp-2")


QUICK = ("uneven", "short-each-its-own", "resumes", "twice", "fsdp-2")


def cases():
    chosen = {name: functools.partial(compare, *case) for name, case in CASES.items()}
    return {
        **chosen,
        "resumes": resumes,
        "twice": twice,
        **{name: functools.partial(refused, name) for name in REFUSED},
    }


@functools.cache
def outcomes(part):
    run_all = runpy.run_path(str(PARALLEL / "conftest.py"))["run_all"]
    return run_all(__file__, 2, part)


def check(case):
    found = outcomes("quick" if case in QUICK else "slow")
    said = found.get(case, found["output"])
    assert said == ["ok"] * 2, "\n".join(said)


def marked(names):
    return [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.mark.parametrize("case", marked(CASES))
def test_two_processes_end_where_the_plain_loop_over_them_does(case):
    # Red: a share of the process's tokens where those of all count, or the other way round; noise
    # of the reduced gradient in place of a worker's own; a short group's last worker unsaid.
    check(case)


def test_they_resume_to_the_bit():
    check("resumes")


def test_they_train_twice():
    check("twice")


@pytest.mark.parametrize("option", marked(REFUSED))
def test_other_ways_to_share_are_refused(option):
    check(option)


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(PARALLEL)]
    import replicas
    import trainer_runs

    trainer_runs.join(*map(int, sys.argv[1:4]))
    quick = sys.argv[4] == "quick"
    replicas.main({name: case for name, case in cases().items() if (name in QUICK) == quick})
