"""Where a dataset is written until it is whole: a hidden folder beside its place.

mine.zarr            appears whole
.mine.zarr.partial   until then: `lock`, how it was begun, and the store
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dipole.data.core.errors import DataError
from dipole.data.core.lock import exclusive
from dipole.data.store.publish import publish, zip_folder

RECORDING, CONVERSION = "options.json", "request.json"  # by which each knows what it began
_LOCK = "lock"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def locked_folder(path: Path, *others: str) -> Iterator[Path]:
    """The folder in which the dataset that is to lie at `path` is written, by one process only.

    others: files by which what somebody else began is known, which is refused. Raises DataError
    where another process writes it.
    """
    work = partial_folder(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        work.mkdir(exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: nothing can be written there ({error})") from error
    with exclusive(work / _LOCK, str(path)):
        _refuse_unfinished(path, *others)
        try:
            with naming_a_full_disk(work):
                yield work
        finally:
            if work.is_dir() and [entry.name for entry in work.iterdir()] == [_LOCK]:
                shutil.rmtree(work)  # nothing was begun


@contextmanager
def naming_a_full_disk(work: Path) -> Iterator[None]:
    """Raise DataError for a disk that is full: what was written stays, to go on with."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DataError(
            f"{work}: the disk is full, or a quota is used up ({error}). Make room; what was "
            "written stays there, to be gone on with"
        ) from error


def partial_folder(path: Path) -> Path:
    """The folder's path: beside `path`, so that what is whole can be moved there."""
    return path.parent / f".{path.name}.partial"


def clear_folder(work: Path) -> None:
    """Remove everything but the lock."""
    for entry in work.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != _LOCK:
            entry.unlink()


def place_store(folder: Path, path: Path) -> None:
    """Put a finished store in its place, zipped where the name says so; never over something."""
    publish(pack_store(folder, path), path)


def pack_store(folder: Path, path: Path) -> Path:
    """The finished store as it will lie at the path: the folder, or a zip of it beside it."""
    if path.suffix != ".zip":
        return folder
    written = folder.with_name("store.zip")
    zip_folder(folder, written)
    return written


def refuse_existing(path: Path) -> None:
    """Raise DataError where something is at the path; what a process that was killed between
    placing it and its own end left beside it goes."""
    if os.path.lexists(path):
        _remove_remains(path)
        raise DataError(
            f"{path}: exists already, and datasets are never overwritten. "
            "Choose another path or remove it"
        )


def _remove_remains(path: Path) -> None:
    """The folder of what was written, where nothing but its notes is left and nobody has it."""
    work = partial_folder(path)
    if not work.is_dir() or {entry.name for entry in work.iterdir()} - {
        _LOCK,
        RECORDING,
        CONVERSION,
    }:
        return
    with suppress(DataError), exclusive(work / _LOCK, str(path)):
        shutil.rmtree(work)


def _refuse_unfinished(path: Path, *files: str) -> None:
    work = partial_folder(path)
    if any((work / file).exists() for file in files):
        raise DataError(
            f"{path}: something unfinished lies in {work}. A recording goes on with resume=true "
            "(`dipole record`) or EpisodeWriter.resume, a conversion with the same words again; to "
            "begin anew, remove that folder"
        )
