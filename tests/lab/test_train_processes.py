"""A run over two processes is the experiment of one: torchrun on this file, and on the command."""

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from largebatch.lab import train as train_module
from largebatch.lab.config import BatchesConfig, RunConfig, ScheduleConfig, to_dict
from largebatch.lab.errors import InputError
from largebatch.lab.methods import PARTS, RULES
from largebatch.lab.processes import Processes, joined
from largebatch.lab.setup import check_run, load_task
from largebatch.lab.train import train

SOURCE = str(Path(__file__).parents[2] / "src")

# In float64, so that sums in another order differ by 1e-16 of them and no threshold is crossed.
TASK = """
import os
import torch
from torch import nn
from largebatch.lab.tasks import Data, Task

def examples(count, seed):
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=source, dtype=torch.float64)
    return x, (x[:, 0] > x[:, 1] + 0.3 * torch.randn(count, generator=source)).long()

def load(data_dir):
    return Data(examples(104, 1), examples(60, 2))

def network():
    # Without the bias that batch norm takes away: its gradient is all rounding.
    layers = nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2)
    return nn.Sequential(*layers).double()

class Spare(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = network(), nn.Linear(3, 2).double()
    def forward(self, x):
        return self.used(x)

class Dropping(Spare):
    drawn = []
    def forward(self, x):
        Dropping.drawn.append(torch.rand(()).item())
        return super().forward(nn.functional.dropout(x, 0.5, self.training))

def shifted(inputs, source):
    return inputs + 0.01 * torch.randn(inputs.shape, generator=source, dtype=torch.float64)

class Failing(Spare):
    calls = 0
    def forward(self, x):
        Failing.calls += 1
        if Failing.calls == 9 and os.environ.get("RANK") == "1":
            raise ZeroDivisionError("this process alone")
        return super().forward(x)

def absent():
    if os.environ.get("RANK") == "1":
        raise ZeroDivisionError("no network here")
    return network()

parts = {"title": "Which of two", "load": load, "augment": shifted}
task = Task(name="double", model=network, **parts)
spare = Task(name="spare", model=Spare, **parts)
drops = Task(name="drops", model=Dropping, **parts)
failing = Task(name="failing", model=Failing, **parts)
absent = Task(name="absent", model=absent, **parts)
"""

RUN = RunConfig(
    task="double_task:task", method="sngm+gnc", batch_size=32, worker_size=8, lr=0.3, alpha=0.1,
    epochs=4, schedule=ScheduleConfig(warmup_epochs=1), evaluations=4, refresh_every=5,
)  # fmt: skip
PLAIN = replace(RUN, method="msgd", alpha=None)


def of(method):
    alpha = PARTS[method].first(0.01) if method in PARTS else None
    return replace(RUN, method=method, alpha=alpha, lr=0.01)


METHODS = {method: of(method) for method in (*RULES, *PARTS)}
COURSES = {
    "grow": replace(RUN, batches=BatchesConfig(sizes=(16,), until=(2.0,))),
    "grow, two optimizers": replace(
        RUN, method="muon+gnc", lr=0.01, batches=BatchesConfig(sizes=(16,), until=(2.0,))
    ),
    "all examples": replace(RUN, batch_size=104, worker_size=26),
    "short last batch": replace(RUN, drop_last=False),
    "short last batch, looking on": replace(of("extrap"), drop_last=False),
    "unused parameters": replace(RUN, task="double_task:spare"),
    "one worker each": replace(RUN, worker_size=16),
}
EVERY = {**METHODS, **COURSES}
RESUMED = {name: replace(EVERY[name], checkpoint_seconds=0.0) for name in ("gnc", "eigen", "grow")}
RESUMED["dropout"] = replace(RUN, task="double_task:drops", checkpoint_seconds=0.0)


class Stop(Exception):
    pass


def ended(config, out, processes=None, stop=None):
    """The result, and the state of the model, of a run to its end or to a step."""
    found = []
    original = train_module.make_training

    def make(*arguments):
        found.append(original(*arguments))
        return found[-1]

    def told(done, steps):
        if done == stop:
            raise Stop

    more = () if processes is None else (processes,)
    train_module.make_training = make
    try:
        result = train(config, out, None, told, *more)
    finally:
        train_module.make_training = original
    return result, found[-1].model.state_dict()


def parted(folder):
    """What one of several processes does: every case, and its weights in files of its own."""
    states = {}
    with joined() as processes:
        for name, config in EVERY.items():
            result, states[name] = ended(config, folder / name, processes)
            assert result["status"] == "done", name
        for name, config in RESUMED.items():
            _, states[f"{name}, whole"] = ended(config, folder / f"{name}, whole", processes)
            try:
                ended(config, folder / f"{name}, cut", processes, stop=7)
            except Stop:
                states[f"{name}, cut"] = ended(config, folder / f"{name}, cut", processes)[1]
        states["drawn"] = sys.modules["double_task"].Dropping.drawn
        diverging = replace(PLAIN, lr=1e300, epochs=50)
        assert ended(diverging, folder / "diverged", processes)[0]["status"] == "diverged"
        assert ended(diverging, folder / "diverged", processes)[0]["status"] == "diverged"
        torch.save(states, folder / f"states{processes.rank}.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the task, in which processes start."""
    made = tmp_path_factory.mktemp("processes")
    (made / "double_task.py").write_text(TASK)
    return made


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    load_task.cache_clear()
    yield folder
    sys.modules.pop("double_task", None)
    load_task.cache_clear()


def start(folder, *command, processes=2, **options):
    """Start torchrun; what it and its processes say comes together."""
    environment = os.environ | {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.Popen(
        [*runner, "--nproc-per-node", str(processes), *map(str, command)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
    )


def said(process, seconds=120):
    try:
        return process.communicate(timeout=seconds)[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def lines(text):
    """What the command itself says, of all that torchrun says around it."""
    return [line for line in text.splitlines() if line.startswith("largebatch: ")]


def codes(text):
    return [int(code) for code in re.findall(r"exitcode\s*: (-?\d+)", text)]


def command(config, folder, out):
    (folder / f"{out}.json").write_text(json.dumps(to_dict(config)))
    return ["-m", "largebatch", "train", "--config", f"{out}.json", "--out", out]


def measured(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def assert_same_measurements(ours, theirs):
    rows = list(zip(measured(ours), measured(theirs), strict=True))
    assert rows
    for one, other in rows:
        assert one.keys() == other.keys()
        for key, value in other.items():
            # Losses are added up in float32 before they are written.
            near = value if isinstance(value, str) else pytest.approx(value, rel=1e-5)
            assert one[key] == near, key


def test_the_command_ends_where_one_process_does(here):
    # Red: a batch that is not shared, records of one process's loss, two that write.
    text = said(run := start(here, *command(RUN, here, "command"), "--json"))
    assert run.returncode == 0, text
    result = json.loads(text[text.index("{\n") : text.rindex("}") + 1])
    assert text.count('"status"') == 1
    train(RUN, here / "alone")
    assert_same_measurements(here / "command", here / "alone")
    alone = json.loads((here / "alone" / "result.json").read_text())
    assert result == json.loads((here / "command" / "result.json").read_text())
    for key in ("status", "value", "updates", "examples", "epochs"):
        assert result[key] == alone[key]
    kept = {path.name for path in (here / "command").iterdir()}
    assert kept == {"config.json", "environment.json", "metrics.jsonl", "result.json"}
    configs = [
        json.loads((here / each / "config.json").read_text()) for each in ("command", "alone")
    ]
    assert configs[0] == configs[1]
    where = [json.loads((here / e / "environment.json").read_text()) for e in ("command", "alone")]
    assert [each["processes"] for each in where] == [2, 1]


@pytest.fixture(scope="module")
def states(folder):
    """Of every case, the weights on each of two processes."""
    text = said(run := start(folder, __file__, folder), 400)
    assert run.returncode == 0, text
    return [torch.load(folder / f"states{rank}.pt") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("case", EVERY)
def test_every_method_ends_where_one_process_does(here, states, case):
    # Red: noise of this process's workers alone, a refresh on a share of its examples, the next
    # worker looked for in this process only, a batch that grows on every process.
    _, alone = ended(EVERY[case], here / f"{case}, alone")
    for name, each in alone.items():
        torch.testing.assert_close(states[0][case][name], each, rtol=1e-9, atol=1e-9)
        assert torch.equal(states[0][case][name], states[1][case][name])
    assert_same_measurements(here / case, here / f"{case}, alone")


@pytest.mark.slow
@pytest.mark.parametrize("case", RESUMED)
def test_a_resumed_run_equals_the_uninterrupted_one(here, states, case):
    for rank in range(2):
        whole, cut = (states[rank][f"{case}, {how}"] for how in ("whole", "cut"))
        assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert measured(here / f"{case}, whole") == measured(here / f"{case}, cut")


@pytest.mark.slow
def test_processes_draw_their_own_dropout(here, states):
    ours, theirs = (each["drawn"] for each in states)
    assert len(theirs) >= 2 * 12
    assert not set(ours) & set(theirs)


@pytest.mark.slow
def test_all_processes_end_where_the_loss_is_not_a_number(here, states):
    assert measured(here / "diverged")[-1]["loss"] is None


@pytest.mark.slow
def test_another_number_of_processes_is_refused(here, states):
    folder = here / "gnc, left"
    with pytest.raises(Stop):
        ended(RESUMED["gnc"], folder, stop=7)
    text = said(run := start(here, *command(RESUMED["gnc"], here, folder.name)))
    assert run.returncode
    (line,) = lines(text)
    assert "state.pt is of a run on 1 processes, there are 2 now: go on with 1, or delete" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "processes", "message"),
    [
        (["train", "--task", "double_task:task", "--batch", "64", "--set", "worker_size=32"],
         3, "3 processes cannot share 2 workers (batch_size / worker_size): start a number"),
        (["train", "--task", "double_task:tsk", "--set", "worker_size=32"], 2, "has no 'tsk'"),
        (["train", "--sett", "lr=1"], 2, "unrecognized arguments: --sett"),
        (["train", "--config", "absent.json"], 2, "cannot read absent.json"),
        (["train", "--data-dir", "absent"], 2, "--data-dir absent is not a folder"),
        (["train", "--task", "double_task:task", "--device", "cuda:0", "--batch", "64",
          "--set", "worker_size=32"], 2, "device 'cuda:0' is one for 2 processes: choose 'cuda'"),
        (["compare", "--scale", "smoke"], 2, "compare does not run in 2 processes that share"),
        (["list"], 2, "list does not run in 2 processes"),
    ],
)  # fmt: skip
def test_bad_input_is_said_once(here, arguments, processes, message):
    before = set(here.rglob("*"))
    text = said(start(here, "-m", "largebatch", *arguments, processes=processes))
    (line,) = lines(text)
    assert message in line
    assert 2 in codes(text)
    assert set(codes(text)) <= {2, -signal.SIGTERM}  # that by which torchrun ends the others
    assert {path for path in set(here.rglob("*")) - before if path.suffix != ".pyc"} <= {
        here / "__pycache__"
    }


@pytest.mark.slow
@pytest.mark.parametrize("task", ["failing", "absent"])
def test_a_failure_in_one_process_ends_all(here, task):
    config = replace(RUN, task=f"double_task:{task}")
    began = time.monotonic()
    text = said(run := start(here, *command(config, here, task)))
    assert run.returncode
    assert time.monotonic() - began < 60  # the time limit is 30 minutes
    assert "ZeroDivisionError" in text
    assert 1 in codes(text)
    assert not (here / task / "result.json").exists()


def long(here, name):
    config = replace(RUN, checkpoint_seconds=0.0, epochs=600, evaluations=60)
    return config, start(here, *command(config, here, name))


def until_checkpoint(folder, process):
    end = time.monotonic() + 100
    while not (folder / "checkpoint" / "state.pt").exists():
        assert time.monotonic() < end
        assert process.poll() is None, said(process)
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_is_killed_ends_all_and_the_run_goes_on(here, rank):
    config, process = long(here, f"killed{rank}")
    until_checkpoint(here / f"killed{rank}", process)
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
    os.kill(sorted(map(int, found.stdout.split()))[rank], signal.SIGKILL)
    text = said(process, 60)
    assert -signal.SIGKILL in codes(text)
    assert not (here / f"killed{rank}" / "result.json").exists()
    again = start(here, *command(config, here, f"killed{rank}"))
    assert "after 1,800 updates" in said(again)
    if not (here / "not killed" / "result.json").exists():
        said(start(here, *command(config, here, "not killed")))
    assert measured(here / f"killed{rank}") == measured(here / "not killed")


@pytest.mark.slow
def test_ctrl_c_is_said_once(here):
    _, process = long(here, "interrupted")
    until_checkpoint(here / "interrupted", process)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process
    text = said(process, 60)
    (line,) = lines(text)
    assert line == (
        "largebatch: interrupted: the same command goes on from its checkpoint in interrupted"
    )
    assert not (here / "interrupted" / "result.json").exists()


@pytest.mark.slow
def test_every_process_of_an_interrupted_run_exits_with_130(here):
    """Under torchrun, which hides it."""
    config = replace(RUN, checkpoint_seconds=0.0, epochs=100_000, evaluations=60)
    arguments = command(config, here, "alike")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=here,
            env=os.environ | told | {"RANK": rank, "LOCAL_RANK": rank, "PYTHONPATH": SOURCE},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        until_checkpoint(here / "alike", processes[0])
        for process in processes:
            process.send_signal(signal.SIGINT)
        texts = [process.communicate(timeout=60)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [process.returncode for process in processes] == [130, 130]
    assert [len(lines(text)) for text in texts] == [1, 0]


@pytest.mark.slow
def test_a_full_disk_is_said_once(here):
    # A limit on the size of a file acts like a disk that is full.
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    config = replace(RUN, checkpoint_seconds=0.0, epochs=600, evaluations=600)
    text = said(start(here, *command(config, here, "full"), preexec_fn=limit))
    (line,) = lines(text)
    assert line.startswith("largebatch: cannot write to full: ")
    assert set(codes(text)) <= {1, -signal.SIGTERM}


def test_every_size_of_a_growing_batch_must_be_shared(here):
    with pytest.raises(InputError, match=r"3 processes cannot share 2 workers"):
        check_run(COURSES["grow"], Processes(ranks=3))
    check_run(COURSES["grow"], Processes(ranks=2))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(sys.argv[1])))
    parted(Path(sys.argv[1]))
