"""One command at a time in a folder: two would each go on from what the other has written."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from .errors import InputError

__all__ = ["alone_in"]

log = logging.getLogger("largebatch")
LOCK = "lock"
"""A file, not the folder itself: network file systems lock a folder on one machine only."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make ``folder``, and hold it until the end or until this process dies.

    The file that is locked is gone at the end; where a process was killed it stays, and holds
    nobody up. Where a system has no such locks (Windows, say), the log says so, once.

    Raises:
        InputError: another process holds it, or it cannot be written to.

    Example:
        >>> import tempfile
        >>> with alone_in(Path(tempfile.mkdtemp()) / "run"):
        ...     pass
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _taken(folder / LOCK)
    except BlockingIOError as error:
        raise InputError(
            f"another command is at work in {folder}: wait for its end, or choose another --out"
        ) from error
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        if handle is not None:
            (folder / LOCK).unlink(missing_ok=True)  # while it is still ours
            os.close(handle)


def _taken(path: Path) -> int | None:
    """The locked file, or None where nothing can be locked."""
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ImportError:
        _unheld()
        return None
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            flock(handle, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise
        except OSError:
            os.close(handle)
            path.unlink(missing_ok=True)
            _unheld()
            return None
        if _is_there(path, handle):
            return handle
        os.close(handle)  # who held it has just removed it: that is another file now


def _is_there(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


@cache
def _unheld() -> None:
    log.warning("folders cannot be locked here: start no second command in one of them")
