"""Files and folders that appear whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
