"""Files and folders that appear whole or not at all."""

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dipole.data.core.errors import CheckpointError

PARTIAL = ".partial"  # the end of the names of what is not finished
ABANDONED_AFTER = 24 * 3600.0  # seconds


def flush(path: Path) -> None:
    """Make the file or folder at `path` survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Replace the file at `path` in one step."""
    with atomic_write(path) as beside:
        beside.write_text(json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A file that holds a JSON object. Raises CheckpointError, naming it, for anything else."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return value


def describe(path: Path) -> dict[str, Any]:
    """A file's size and SHA-256."""
    with path.open("rb") as file:
        return {
            "bytes": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


def write_manifest(folder: Path, head: Mapping[str, Any]) -> None:
    """Write manifest.json: `head`, and every file's size and SHA-256."""
    files = {path.name: describe(path) for path in sorted(folder.iterdir())}
    (folder / "manifest.json").write_text(json.dumps({**head, "files": files}, indent=1))


def check_manifest(folder: Path) -> None:
    """Raises CheckpointError for a file that is missing or not what manifest.json says."""
    for name, listed in read_json(folder / "manifest.json").get("files", {}).items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{folder}: {name} is missing: copy the whole folder again")
        if describe(path) != listed:
            raise CheckpointError(
                f"{path}: differs from what the manifest says (size or SHA-256): it was damaged "
                "or replaced; copy or make the folder again"
            )


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `target` at the end, or vanishes if an error occurs.

    It is written beside its place, flushed, and renamed: whoever sees `target` sees all of it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(target)
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        yield beside
        for path in beside.iterdir():
            flush(path)
        flush(beside)
        beside.rename(target)
        flush(target.parent)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """A path to write one file to: it becomes `target` at the end, or vanishes if an error occurs.

    An older file at `target` is replaced in one step.
    """
    beside = _beside(target)
    try:
        yield beside
        flush(beside)
        beside.replace(target)
        flush(target.parent)
    finally:
        beside.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Remove a folder so that no instant shows half of it under its name."""
    doomed = _beside(path)
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def remove_leftovers(folder: Path, older_than: float = ABANDONED_AFTER) -> None:
    """Remove what killed processes left half-written or half-removed in `folder`.

    Names of unfinished files and folders say which process of which computer they belong to: those
    of a process that still runs stay. Of other computers, whose processes cannot be asked, those
    stay that are younger than `older_than` seconds.
    """
    for path in folder.glob(f".*{PARTIAL}"):
        if _is_abandoned(path, older_than):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _beside(target: Path) -> Path:
    """Where this process writes what becomes `target`."""
    return target.with_name(f".{target.name}.{_host()}.{os.getpid()}{PARTIAL}")


def _host() -> str:
    return platform.node().replace(".", "-") or "localhost"


def _is_abandoned(path: Path, older_than: float) -> bool:
    *_, host, pid = path.name.removesuffix(PARTIAL).split(".")
    if host == _host() and pid.isdigit() and os.name == "posix":
        return int(pid) == os.getpid() or not _runs(int(pid))
    try:
        return time.time() - path.stat().st_mtime > older_than
    except FileNotFoundError:  # finished meanwhile
        return False


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # asks, and changes nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
