"""Runs a test's own file as a script in several processes, all its cases in one start."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SECONDS = 900
TESTS = Path(__file__).parents[1]  # where every_method.py is


def run_all(script: str, processes: int, *more: object) -> dict[str, list[str]]:
    """What each case said in each process: "ok", or the trace of what went wrong."""
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, script, str(rank), str(processes), str(port), *map(str, more)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        )
        for rank in range(processes)
    ]
    try:
        said = [each.communicate(timeout=SECONDS)[0] for each in started]
    finally:
        for each in started:
            each.kill()
    found: dict[str, list[str]] = {}
    for rank, text in enumerate(said):
        for line in text.splitlines():
            if line.startswith("CASE "):
                case, outcome = json.loads(line.removeprefix("CASE "))
                found.setdefault(case, ["did not run"] * processes)[rank] = outcome
    found["output"] = said
    return found


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Asserts that a case of the module's own script went well in every process.

    All cases of a part of the script are run by the first that is asked for.
    """
    found: dict[tuple[object, ...], dict[str, list[str]]] = {}

    def check(case: str, *part: str, processes: int = 2) -> None:
        key = (processes, *part)
        if key not in found:
            found[key] = run_all(str(Path(request.module.__file__)), processes, *part)
        said = found[key].get(case, found[key]["output"])
        assert said == ["ok"] * processes, "\n".join(said)

    return check
