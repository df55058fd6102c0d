"""What an earlier attempt at a store left in its folder."""

import json
import shutil
from pathlib import Path

from dipole.data.core.errors import DataError

UNFINISHED = "unfinished"  # the folder of what is under way


def is_finished(folder: Path) -> bool:
    """Whether a folder is a whole store of ours."""
    try:
        return "dipole_format" in json.loads((folder / "zarr.json").read_text())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def remove_partial_files(folder: Path) -> None:
    """Remove small files whose writing a crash cut short."""
    for leftover in folder.rglob("*.partial"):
        if leftover.is_file():
            leftover.unlink()


def clear(folder: Path) -> None:
    """Remove what an attempt left that came to no commit; raises DataError for others."""
    ours = {"zarr.json", "data", "meta", "videos", UNFINISHED}
    others = sorted({entry.name for entry in folder.iterdir()} - ours)
    if others or any((folder / name).is_symlink() for name in ours):
        raise DataError(
            f"{folder}: holds {(others or ['links'])[0]!r} and no episodes of an unfinished "
            "recording. Choose another folder"
        )
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
