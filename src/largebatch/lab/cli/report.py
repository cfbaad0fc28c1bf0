"""largebatch report DIR: the report of a comparison, made anew from its run folders."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add report's arguments."""
    parser.add_argument("folder", type=Path, help="folder that `largebatch compare --out` wrote")
    parser.add_argument("--figure", type=Path, help="also write the main picture as an SVG file")


def run(options: argparse.Namespace) -> int:
    """Write report.html and print the table."""
    from ..report import figure_svg, summary_table, write_report

    try:
        page = write_report(options.folder)
    except (OSError, ValueError) as error:
        raise InputError(f"no report from {options.folder}: {error}") from error
    print(summary_table(options.folder))
    if options.figure:
        options.figure.write_text(figure_svg(options.folder), encoding="utf-8")
        print(f"Figure: {options.figure}")
    print(f"Report: {page}")
    return 0
