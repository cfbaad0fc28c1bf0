"""What a run was measured on: versions and hardware, without names of hosts, users or folders."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

import largebatch

__all__ = ["environment"]

PACKAGES = ("numpy", "scipy", "scikit-learn", "torchvision", "timm", "triton")


def environment(device: str = "cpu", processes: int = 1) -> dict[str, object]:
    """Versions, processor, cores, accelerator, the commit of this source, if any.

    And the processes that share the work, with so many threads in each.
    """
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "largebatch": largebatch.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "accelerator": gpu,
        "packages": {name: v for name in PACKAGES if (v := _version(name))},
    }


@cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


@cache
def _commit() -> str | None:
    """The commit of the checkout that this package is imported from; None for an installed one."""
    source = Path(largebatch.__file__).resolve().parents[2]
    if not (source / ".git").exists():
        return None
    command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
