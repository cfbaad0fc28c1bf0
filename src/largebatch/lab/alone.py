"""One command at a time in a folder: two would each go on from what the other has written."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError

__all__ = ["alone_in"]

log = logging.getLogger("largebatch")


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make ``folder``, and hold it until the end or until this process dies.

    It leaves no file behind: the lock is the folder's own. Where a system has none (Windows, some
    network file systems), a line of the log says so.

    Raises:
        InputError: another process holds it.

    Example:
        >>> import tempfile
        >>> with alone_in(Path(tempfile.mkdtemp()) / "run"):
        ...     pass
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        _unheld(folder)
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise InputError(
                    f"another command is at work in {folder}: wait for its end, or choose another "
                    "--out"
                ) from error
            _unheld(folder)
        yield
    finally:
        os.close(handle)


def _unheld(folder: Path) -> None:
    log.warning("%s cannot be locked here: start no second command in it", folder)
