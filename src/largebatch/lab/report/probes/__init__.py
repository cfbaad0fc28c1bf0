"""The report of `largebatch probe RUN...`: what was measured of one or more runs, side by side.

It knows records only. ``runs`` reads them, each figure family is a file with a function from runs
to a figure, None where there are no rows for it, ``page`` puts them together.
"""

from collections.abc import Sequence
from pathlib import Path

from ..shell import put
from .page import render
from .runs import read_probed

__all__ = ["write_probe_report"]


def write_probe_report(out: Path, runs: Sequence[Path], command: str) -> Path:
    """Write `out`/report.html from run folders, replacing an older one at once.

    Args:
        out: where to write. Further rows of a run that was looked at again are read from
            `out`/<the run folder's name>/probes.jsonl, where that is.
        runs: run folders: config.json, metrics.jsonl.
        command: what the user typed, shown as the way to make the report again.

    Returns:
        The path of the report.

    Raises:
        FileNotFoundError: a run folder has no config.json.
        ValueError: no run was given, a file is not what its name says, or two runs would share
            one file of further rows.

    Example:
        >>> import json, tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> config = json.dumps({"method": "gnc", "batch_size": 1024, "seed": 0})
        >>> _ = (folder / "config.json").write_text(config)
        >>> write_probe_report(folder / "probe", [folder], "largebatch probe x").name
        'report.html'
    """
    html = render(read_probed(out, runs), command)
    out.mkdir(parents=True, exist_ok=True)
    return put(out / "report.html", html)
