"""A task of a second, the command line in this process and in another, for the tests of the lab."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from largebatch.lab.cli import main
from largebatch.lab.setup import load_task

SOURCE = str(Path(__file__).parents[2] / "src")
COMMAND = "import sys; from largebatch.lab.cli import main; sys.exit(main())"

TINY = """
import os
import torch
from torch import nn
from largebatch.lab.tasks import Data, Task

def examples(count, seed):
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=source)
    return x, (x[:, 0] > x[:, 1] + 0.3 * torch.randn(count, generator=source)).long()

def load(data_dir):
    x, y = examples(60, 2)
    return Data(examples(96, 1), (x, 1 - y if os.environ.get("TINY_FLIPPED") else y))

def network():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2))

def bare():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))

def normed():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))

def shifted(inputs, source):
    return inputs + 0.01 * torch.randn(inputs.shape, generator=source)

parts = {"title": "Which of two", "load": load, "validation": 1 / 3, "epochs": 3,
         "small_batch": 8, "batch_sizes": (32,), "augment": shifted}
task = Task(name="tiny", model=network, **parts)
errors = Task(name="tiny-errors", model=network, metric="error_percent", higher_is_better=False,
              score=lambda o, y: 100.0 * (o.argmax(dim=1) != y), **parts)
plain = Task(name="tiny-plain", model=bare, **parts)
batch_norm = Task(name="tiny-bn", model=normed, **parts)
"""


@pytest.fixture(scope="session")
def tiny_text():
    """A module with a tiny task of the user's own, for a folder that several tests share."""
    return TINY


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The name of a tiny task of the user's own, in a module of the current directory."""
    (tmp_path / "tiny_task.py").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    load_task.cache_clear()
    yield "tiny_task:task"
    sys.modules.pop("tiny_task", None)
    load_task.cache_clear()


@pytest.fixture
def cli(capsys):
    """Runs the command line in this process: exit code, standard output, standard error."""

    def run(*arguments):
        code = main([str(a) for a in arguments])
        found = capsys.readouterr()
        return code, found.out, found.err

    return run


@pytest.fixture
def start():
    """Starts the command line, or other Python, in another process; ended after the test."""
    started = []

    def begin(*arguments, code=COMMAND, **options):
        environment = os.environ | {"PYTHONPATH": SOURCE} | options.pop("env", {})
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        with process:
            if process.poll() is None:
                process.kill()


@pytest.fixture
def read():
    """A JSON file's content, or the rows of a JSON Lines file."""

    def of(path):
        text = Path(path).read_text()
        return (
            [json.loads(x) for x in text.splitlines()]
            if path.suffix == ".jsonl"
            else json.loads(text)
        )

    return of
