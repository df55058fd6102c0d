"""Files and folders that appear whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dipole.data.core.errors import CheckpointError


def flush(path: Path) -> None:
    """Make the file or folder at `path` survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Replace the file at `path` in one step."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(value, indent=1) + "\n")
    flush(beside)
    beside.replace(path)
    flush(path.parent)


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
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `target` at the end, or vanishes if an error occurs.

    It is written beside its place, flushed, and renamed: whoever sees `target` sees all of it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}.partial")
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


def remove_folder(path: Path) -> None:
    """Remove a folder so that no instant shows half of it under its name."""
    doomed = path.with_name(f".{path.name}.{os.getpid()}.partial")
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left half-written or half-removed in `folder`."""
    for path in folder.glob(".*.partial"):
        shutil.rmtree(path, ignore_errors=True)
