"""Putting a finished dataset in its place: whole, or not at all."""

import os
import zipfile
from pathlib import Path

_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same dataset gives the same zip, whenever it is written


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
    """Flush a finished file or folder to the disk and rename it to its place."""
    for path in [written, *written.rglob("*")] if written.is_dir() else [written]:
        _flush(path)
    os.rename(written, target)
    _flush(target.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
