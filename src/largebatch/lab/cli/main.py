"""Reads the command line, calls one verb, and turns what went wrong into a line and a code."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from ..errors import Elsewhere, Failed, InputError, exit_code
from ..processes import launched

__all__ = ["build_parser", "main"]

VERBS = {
    "compare": "methods against each other on a task, tuned alike, with a report",
    "ablate": "a method against itself without one of its parts, with a verdict",
    "train": "one run of a recipe, or of settings of your own",
    "report": "make a comparison's report anew from its run folders",
    "probe": "what a run's checkpoints show of why it went as it did, with a report",
    "list": "tasks, methods and recipes that have a name",
}
IN_PROCESSES = {"train"}
"""What torchrun may start; the others have processes of their own, or need one."""
GRACE = 10.0
"""Seconds that a process with nothing to say waits for the one that has, or for the launcher to end
it: torchrun ends all as soon as one has ended."""
EXTRA = {"sklearn", "scipy", "numpy", "jinja2", "rich"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line as for any other bad input, without the usage that argparse prints above it."""
        raise InputError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    try:
        options = _options(arguments)
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        return _say(f"{package} is missing: pip install 'largebatch[lab]'", 2)
    except Elsewhere as other:
        if other.code != 130:
            time.sleep(GRACE)
        return other.code
    except KeyboardInterrupt as error:
        return _say(str(error) or "interrupted", 130)
    except InputError as error:
        return _say(str(error), 2)
    except BrokenPipeError:
        # Whoever reads us has seen enough. What is still buffered must go somewhere at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Failed, OSError) as error:
        return _say(str(error), 1)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; what is wrong with them is so in every process, and the first says it."""
    processes = launched()
    try:
        options = build_parser().parse_args(arguments)
        if processes.ranks > 1 and options.verb not in IN_PROCESSES:
            raise InputError(
                f"{options.verb} does not run in {processes.ranks} processes that share a run: "
                "start it without torchrun (compare starts processes of its own, --jobs)"
            )
    except InputError as error:
        if processes.rank:
            raise Elsewhere(exit_code(error)) from error
        raise
    return options


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs; each verb is a module that adds its own arguments."""
    parser = _Parser(
        prog="largebatch", description="Train with large batches without losing accuracy."
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name, summary in VERBS.items():
        verb = verbs.add_parser(name, help=summary, description=summary)
        module = importlib.import_module(f".{name}", __package__)
        module.add_arguments(verb)
        verb.set_defaults(run=module.run, verb=name)
    return parser


def _say(message: str, code: int) -> int:
    print(f"largebatch: {' '.join(message.split())}", file=sys.stderr)
    return code
