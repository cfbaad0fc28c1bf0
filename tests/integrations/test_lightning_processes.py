"""Lightning's DDP strategy over two processes: WorkersCallback ends where the loop by hand does."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

import largebatch as lb

pytestmark = pytest.mark.slow  # several processes, each of which imports the library first

GNC = lb.GNC(alpha=1.0)
MICRO = 7  # micro-batches of a process: groups of 2, 2, 2 and 1
SECONDS = 300


def share(rank: int, micro_batches: int) -> list[Any]:
    """The micro-batches of a process."""
    from lightning_task import loader

    every = [tuple(batch) for batch in loader(2 * micro_batches)]
    return every[rank * micro_batches : (rank + 1) * micro_batches]


def fit(perturb: Any, count: int = 2, micro_batches: int = MICRO, **options: Any) -> Any:
    from lightning.pytorch.callbacks import Callback
    from lightning_task import Net, trainer

    from largebatch.integrations.lightning import WorkersCallback

    path, at = options.pop("path", None), options.pop("save", (None, 0))
    workers = {k: options.pop(k) for k in ("gradient_noise", "refresh_every") if k in options}

    class Save(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            if trainer.fit_loop.epoch_loop.total_batch_idx + 1 == at[1]:
                trainer.save_checkpoint(at[0])

    net, callback = Net(), WorkersCallback(perturb, **workers)
    options = {"accumulate_grad_batches": count, "callbacks": [callback, Save()], **options}
    made = trainer(strategy="ddp", devices=2, use_distributed_sampler=False, **options)
    batches = DataLoader(share(dist.get_rank(), micro_batches), batch_size=None)
    made.fit(net, batches, ckpt_path=path)
    assert isinstance(callback.workers.model, torch.nn.parallel.DistributedDataParallel)
    return net, callback.workers


def by_hand(perturb: Any, count: int = 2, micro_batches: int = MICRO, **options: Any) -> Any:
    from lightning_task import ByHand

    over = ByHand(perturb, count, wrap=torch.nn.parallel.DistributedDataParallel, **options)
    return over.run(share(dist.get_rank(), micro_batches))


def assert_replicas_are_identical(net: torch.nn.Module) -> None:
    flat = torch.cat([each.double().flatten() for each in net.state_dict().values()])
    every = [torch.empty_like(flat) for _ in range(2)]
    dist.all_gather(every, flat)
    assert torch.equal(*every)


def compare(perturb: Any, count: int = 2, clip: float = 0.0, **options: Any) -> None:
    from lightning_task import assert_same, distance

    net, _ = fit(perturb, count, gradient_clip_val=clip, **options)
    theirs = by_hand(perturb, count, clip=clip, **options)
    assert_same(net, theirs.net)
    assert_replicas_are_identical(net)
    assert theirs.offsets > 0.01
    options.pop("refresh_every", None)
    assert distance(theirs.net, by_hand(None, count, clip=clip, **options).net) > 1e-3


def one_process() -> None:
    from lightning_task import ByHand, assert_same, groups

    net, _ = fit(GNC, 2, 6)
    theirs = ByHand(GNC, 4)
    for _ in range(3):
        for mine, others in zip(*(groups(share(r, 6), 2) for r in range(2)), strict=True):
            theirs.step([*mine, *others])
    assert_same(net, theirs.net)


def resumed() -> None:
    folder = [tempfile.mkdtemp() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(folder)
    path = Path(str(folder[0])) / "some.ckpt"
    whole, workers = fit(GNC, save=(path, 7))
    again, resumed = fit(GNC, path=path)
    for name, each in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], each), name
    assert workers.step == resumed.step == 12
    states = torch.load(path, weights_only=True)["callbacks"]["WorkersCallback"]["ranks"]
    assert [state["rank"] for state in states] == [0, 1]
    assert not torch.equal(states[0]["slots"][0], states[1]["slots"][0])


CASES: dict[str, Any] = {
    "GNC": lambda: compare(GNC),
    "one process": one_process,
    "one worker each": lambda: compare(GNC, 1),
    "clipped": lambda: compare(GNC, clip=0.3, gradient_noise=lb.AnnealedNoise(eta=0.05)),
    "SAM": lambda: compare(lb.SAM(rho=0.2), 1),
    "m-SAM": lambda: compare(lb.SAM(rho=0.2, per_worker=True)),
    "eigenvectors": lambda: compare(lb.EigenNoise(rho=0.3, k=1), refresh_every=3),
    "resumed": resumed,
}
QUICK = ("GNC", "resumed")


def run_all(*cases: str) -> list[dict[str, str]]:
    """What each process said of the cases: "ok", or the trace of what went wrong."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "NODE_RANK": "0"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, *cases],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**environment, "LOCAL_RANK": str(rank), "RANK": str(rank)},
        )
        for rank in range(2)
    ]
    try:
        said = [each.communicate(timeout=SECONDS)[0] for each in started]
    finally:
        for each in started:
            each.kill()
    found = [[line for line in text.splitlines() if line.startswith("CASE ")] for text in said]
    return [
        {"output": text, **dict(json.loads(line.removeprefix("CASE ")) for line in lines)}
        for text, lines in zip(said, found, strict=True)
    ]


@pytest.fixture(scope="module")
def quick() -> list[dict[str, str]]:
    return run_all(*QUICK)


@pytest.fixture(scope="module")
def rest() -> list[dict[str, str]]:
    return run_all(*(case for case in CASES if case not in QUICK))


def assert_ok(case: str, processes: list[dict[str, str]]) -> None:
    for said in processes:
        assert said.get(case, said["output"]) == "ok", said.get(case, said["output"])


@pytest.mark.parametrize("case", QUICK)
def test_two_processes(case: str, quick: list[dict[str, str]]):
    assert_ok(case, quick)


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case not in QUICK])
def test_two_processes_with_more(case: str, rest: list[dict[str, str]]):
    assert_ok(case, rest)


if __name__ == "__main__":
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", ".*does not have many workers")
    warnings.filterwarnings("ignore", "`isinstance.treespec, LeafSpec.` is deprecated")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name in sys.argv[1:]:
        try:
            CASES[name]()
            outcome = "ok"
        except BaseException:
            outcome = traceback.format_exc()
        print("\nCASE " + json.dumps([name, outcome]), flush=True)
        dist.barrier()
    dist.destroy_process_group()
