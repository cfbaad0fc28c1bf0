"""Accelerate's loop over FSDP2 with two processes ends where one process's workers do.

Accelerate shards on accelerators only; here it is told that it has some, on a mesh of CPUs.
"""

import functools
import runpy
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

import largebatch as lb

pytestmark = pytest.mark.slow  # several processes, each of which imports the library first

PARALLEL = Path(__file__).parents[1] / "parallel"
GROUP, CLIP, EPOCHS = 3, 0.5, 4
GNC = lb.GNC(alpha=1.0)


def accelerator():
    from accelerate import Accelerator, FullyShardedDataParallelPlugin, ParallelismConfig
    from accelerate.state import AcceleratorState, GradientState, PartialState
    from accelerate.utils import DistributedType

    AcceleratorState._reset_state()
    GradientState._reset_state()
    made = Accelerator(cpu=True, gradient_accumulation_steps=GROUP)
    PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    made.state.distributed_type = DistributedType.FSDP
    made.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, reshard_after_forward=True, cpu_ram_efficient_loading=False
    )
    made.state.parallelism_config = ParallelismConfig(dp_shard_size=2)
    made.state.device_mesh = made.state.parallelism_config.build_device_mesh("cpu")
    assert made.is_fsdp2
    return made


class Loop:
    def __init__(self, perturb=GNC):
        import accelerate_loop as loops
        from torch.utils.data import DataLoader

        from largebatch.integrations.accelerate import register_for_checkpointing

        self.accelerator = accelerator()
        module = loops.network()
        loader = DataLoader(loops.digits(6 * GROUP), batch_size=loops.BATCH)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(
            module, loops.sgd(module), loader
        )
        assert all(hasattr(p, "placements") for p in self.model.parameters())
        self.workers = lb.Workers(self.model, self.optimizer, perturb, count=GROUP, reduction="sum")
        register_for_checkpointing(self.accelerator, self.workers)

    def run(self, epochs=EPOCHS):
        for _ in range(epochs):
            for x, y in self.loader:
                with self.accelerator.accumulate(self.model):
                    last = self.accelerator.sync_gradients
                    with self.workers.next(last=last):
                        loss = nn.functional.cross_entropy(self.model(x), y)
                        self.accelerator.backward(loss)
                    if last:
                        self.workers.combine()
                        self.accelerator.clip_grad_norm_(self.model.parameters(), CLIP)
                    self.optimizer.step()
                    self.optimizer.zero_grad()
        return [p.detach().full_tensor() for p in self.model.parameters()]


def by_hand(perturb):
    """In one process, each worker with both processes' micro-batches."""
    import accelerate_loop as loops

    model = loops.network()
    optimizer = loops.sgd(model)
    workers = lb.Workers(model, optimizer, perturb, count=GROUP)
    x, y = loops.digits(6 * GROUP).tensors
    size, offsets = 2 * GROUP * loops.BATCH, 0.0
    for _ in range(EPOCHS):
        for group in zip(x.split(size), y.split(size), strict=True):
            workers.backward(lambda x, y: nn.functional.cross_entropy(model(x), y), *group)
            offsets = max(offsets, float(workers.offset_to_weight_norm or 0.0))
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
    return [p.detach() for p in model.parameters()], offsets


def far(one, other):
    return max(float((p - q).abs().max()) for p, q in zip(one, other, strict=True))


def ends_there():
    # Red: gradients that stay unreduced in all passes but a group's last, as Accelerate says.
    ours, (theirs, offsets) = Loop().run(), by_hand(GNC)
    assert offsets > 0.01
    assert far(theirs, by_hand(None)[0]) > 1e-3
    assert far(ours, theirs) < 1e-10


def resumes():
    from accelerate.utils import broadcast_object_list

    [folder] = broadcast_object_list([tempfile.mkdtemp()])
    whole = Loop()
    whole.run(2)
    whole.accelerator.save_state(folder)
    found = whole.run(1)
    other = Loop()
    other.accelerator.load_state(folder)
    assert all(map(torch.equal, other.run(1), found))


CASES = {"ends there": ends_there, "resumes": resumes}


@functools.cache
def outcomes():
    return runpy.run_path(str(PARALLEL / "conftest.py"))["run_all"](__file__, 2)


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
