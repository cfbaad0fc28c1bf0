"""Real data for the tests marked ``data``: they skip, saying so, where it is absent."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

try:
    import fcntl
except ImportError:  # Windows: there, do not run these tests in parallel
    fcntl = None

FOLDERS = {
    "mnist": "MNIST/raw",
    "cifar-10": "cifar-10-batches-py",
    "cifar-100": "cifar-100-python",
}
UNPACK = Path(__file__).parents[4] / "shared" / "data" / "unpack.py"


@pytest.fixture
def real_data(request, tmp_path_factory):
    """A function from the name of a set (see FOLDERS) to a data folder that holds it."""

    def folder(name):
        given = os.environ.get("LARGEBATCH_DATA")
        if given and (Path(given) / FOLDERS[name]).is_dir():
            return Path(given)
        if not UNPACK.exists():
            pytest.skip(f"no {name} data: set LARGEBATCH_DATA to a folder with {FOLDERS[name]}")
        cache = getattr(request.config, "cache", None)
        target = cache.mkdir("largebatch-data") if cache else tmp_path_factory.getbasetemp()
        with _alone(target):
            command = [sys.executable, str(UNPACK), str(target), "--only", name]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return Path(target)

    return folder


@contextlib.contextmanager
def _alone(folder):
    """One process at a time: parallel test workers share the cache."""
    with open(Path(folder) / ".lock", "w") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
