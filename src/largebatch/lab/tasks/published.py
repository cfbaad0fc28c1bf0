"""Published files: found in the data folder, or downloaded to it, and read only as published.

A file's bytes are returned after their MD5 matched, and those very bytes are what is then parsed:
a damaged or an exchanged file is an error that names it, never data. Files stand where torchvision
puts them, so a folder that it has filled works, and one that this module has filled works there.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import sys
import tarfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from largebatch.lab.tasks.base import TaskError

if TYPE_CHECKING:
    from _typeshed import SupportsRead

__all__ = ["Archive", "File", "data_folder", "ensure", "read"]

_TIMEOUT = 30  # seconds without a byte after which a server counts as unreachable


@dataclass(frozen=True)
class File:
    """A file of a data set: its path in the data folder, its bytes, and its accepted MD5s.

    Example:
        >>> File("set/labels", size=3, md5=("900150983cd24fb0d6963f7d28e17f72",)).size
        3
    """

    path: str
    size: int
    md5: tuple[str, ...]


@dataclass(frozen=True)
class Archive:
    """What is downloaded: a .tar.gz of files with their paths, or the .gz of a single file.

    ``path`` is where it lies in the data folder, ``urls`` are tried in order.

    Example:
        >>> labels = File("set/labels", 3, ("900150983cd24fb0d6963f7d28e17f72",))
        >>> Archive("set/labels.gz", "...", ("https://example.org/labels.gz",), (labels,)).path
        'set/labels.gz'
    """

    path: str
    md5: str
    urls: tuple[str, ...]
    files: tuple[File, ...]


def data_folder(data_dir: Path | None) -> Path:
    """The folder of the data: ``data_dir``, else $LARGEBATCH_DATA, else ~/.cache/largebatch.

    Example:
        >>> data_folder(Path("here"))
        PosixPath('here')
    """
    if data_dir is not None:
        return Path(data_dir)
    return Path(os.environ.get("LARGEBATCH_DATA") or "~/.cache/largebatch").expanduser()


def ensure(folder: Path, archives: Sequence[Archive]) -> None:
    """Download and unpack what is not in the folder yet; files that are there are left alone.

    Raises:
        TaskError: where something is missing and cannot be downloaded.

    Example:
        >>> labels = File("set/labels", 3, ("900150983cd24fb0d6963f7d28e17f72",))
        >>> ensure(Path("absent"), [Archive("set/labels.gz", "...", (), (labels,))])
        Traceback (most recent call last):
        largebatch.lab.tasks.base.TaskError: set/labels is not in absent and could not be downloaded
        (no address is known): put torchvision's files there, or name a folder that has them
        (--data-dir, or LARGEBATCH_DATA)
    """
    for archive in archives:
        missing = [file for file in archive.files if not (folder / file.path).exists()]
        if not missing:
            continue
        try:
            _download(archive, folder)
            _unpack(archive, missing, folder)
        except (OSError, EOFError, KeyError, tarfile.TarError) as error:
            raise TaskError(
                f"{missing[0].path} is not in {folder} and could not be downloaded ({error}): put "
                "torchvision's files there, or name a folder that has them (--data-dir, or "
                "LARGEBATCH_DATA)"
            ) from error


def read(folder: Path, file: File) -> bytes:
    """The file's content, exactly as published.

    Raises:
        TaskError: where its size or its MD5 is another, with both values.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "labels").write_bytes(b"abc")
        ...     read(Path(folder), File("labels", 3, ("900150983cd24fb0d6963f7d28e17f72",)))
        b'abc'
    """
    path = folder / file.path
    repair = "delete it to have it downloaded again, or restore it"
    size = path.stat().st_size
    if size != file.size:
        raise TaskError(f"{path} has {size} bytes, must have {file.size}: {repair}")
    content = path.read_bytes()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found not in file.md5:
        raise TaskError(f"{path} has MD5 {found}, must have {' or '.join(file.md5)}: {repair}")
    return content


def _download(archive: Archive, folder: Path) -> None:
    target = folder / archive.path
    problems = []
    if target.exists():
        if (found := _md5(target)) == archive.md5:
            return
        problems.append(f"{target} has MD5 {found}, must have {archive.md5}")
    for url in archive.urls:
        print(f"downloading {url} to {target}", file=sys.stderr)
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as source:
                _write(target, source, archive.md5)
            return
        except OSError as error:  # URLError and timeouts are OSErrors
            problems.append(f"{url}: {error}")
    raise OSError("; ".join(problems) or "no address is known")


def _unpack(archive: Archive, missing: Sequence[File], folder: Path) -> None:
    source = folder / archive.path
    if not archive.path.endswith(".tar.gz"):
        with gzip.open(source) as content:
            return _write(folder / missing[0].path, content)
    with tarfile.open(source) as tar:
        for file in missing:  # by name: whatever else the archive holds is never written
            member = tar.extractfile(file.path)
            if member is None:
                raise OSError(f"{file.path} in {source} is not a file")
            _write(folder / file.path, member)


def _write(target: Path, source: SupportsRead[bytes], md5: str | None = None) -> None:
    """Copy to a file beside the target and rename: a half-written target never exists."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
        if md5 is not None and _md5(part) != md5:
            raise OSError(f"what came has MD5 {_md5(part)}, must have {md5}")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _md5(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
