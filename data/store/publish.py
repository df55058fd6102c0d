"""Putting files in their place: whole, or not at all, and never over something."""

import ctypes
import errno
import os
import sys
import zipfile
from pathlib import Path
from typing import BinaryIO

from dipole.data.core.errors import DataError

_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same dataset gives the same zip, whenever it is written
_AT_FDCWD = -100
_NOREPLACE, _EXCHANGE = 1, 2  # flags of Linux's renameat2


def zip_folder(folder: Path, target: Path) -> None:
    """Every file of a folder into a zip, in sorted order; chunks are compressed already."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _LONG_AGO)
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as inside, open(file, "rb") as source:
                while block := source.read(2**20):
                    inside.write(block)


def publish(written: Path, target: Path) -> None:
    """Flush a finished file or folder to the disk and move it to its place.

    Raises DataError where something is there, also when it came a moment ago.
    """
    flush_all(written)
    try:
        _move(written, target)
    except FileExistsError as error:
        raise DataError(
            f"{target}: exists already, and datasets are never overwritten. "
            "Choose another path or remove it"
        ) from error
    flush(target.parent)


def exchange(written: Path, target: Path) -> None:
    """Put a finished folder in the place of another, which takes its place.

    Where the system cannot exchange two names at once, the old folder is moved aside first; a
    crash in between leaves both, under `written` and `written`.old.
    """
    flush_all(written)
    if not _rename_with(written, target, _EXCHANGE):
        aside = written.with_name(written.name + ".old")
        os.rename(target, aside)
        os.rename(written, target)
        os.rename(aside, written)
    flush(target.parent)


class Unflushed:
    """Files and folders that the system may still hold in memory; enabled: whether that matters."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._paths: set[Path] = set()

    def add(self, *paths: Path) -> None:
        """Remember files that were written to, and folders that have new entries."""
        if self._enabled:
            self._paths.update(paths)

    def flush(self) -> None:
        """Have them put on the disk, as far as they are still there."""
        for path in sorted(self._paths):
            if path.exists():
                flush(path)
        self._paths.clear()


def write_whole(file: Path, content: bytes, durable: bool) -> None:
    """Write a small file so that a crash leaves the old content or the new.

    durable: also a power cut; the folder is not flushed, so that it may still be the old one.
    """
    beside = file.with_name(file.name + ".partial")
    with open(beside, "wb") as written:
        written.write(content)
        if durable:
            written.flush()
            os.fsync(written.fileno())
    os.replace(beside, file)


def write_all(file: BinaryIO, content: bytes) -> None:
    """Write everything to a file without a buffer, which may take less at once."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def flush(path: Path) -> None:
    """Have the system put a file, or the entries of a folder, on the disk."""
    if path.is_dir() and os.name != "posix":
        return  # elsewhere folders cannot be opened
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_all(written: Path) -> None:
    """Flush a file, or a folder and everything in it."""
    for path in [written, *written.rglob("*")] if written.is_dir() else [written]:
        flush(path)


def _move(written: Path, target: Path) -> None:
    """Rename, unless something is there; raises FileExistsError."""
    if _rename_with(written, target, _NOREPLACE):
        return
    if written.is_dir():
        # Renaming onto an empty folder replaces it, and making the folder fails if one is there.
        target.mkdir()
        os.rename(written, target)
    else:
        os.link(written, target)
        written.unlink()


def _rename_with(written: Path, target: Path, flags: int) -> bool:
    """Linux's renameat2; False where the system or its file system does not have it."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(written), os.fsencode(target)
    if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(target))
