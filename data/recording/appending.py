"""A finished dataset to which episodes are appended: a copy, and whether it is still the same."""

import os
import shutil
from pathlib import Path
from typing import Any

from dipole.data.core.dataset_root import DatasetRoot
from dipole.data.core.errors import DataError


def options_of(path: Path) -> dict[str, Any]:
    """How a finished dataset was begun; raises DataError for one that is not ours."""
    from dipole.data.store.store import EpisodeStore

    with EpisodeStore.open(path) as store:
        if "dipole_format" not in store.attributes:
            raise DataError(
                f"{path}: not written by dipole, so nothing is appended to it. Convert it first: "
                "dipole data convert"
            )
        kept = {k: v for k, v in store.attributes.items() if k not in ("tasks", "dipole_format")}
        return {
            "fps": store.fps,
            "features": {},
            "environment": store.attributes.get("environment"),
            "images": "zstd",
            "settled": {key: store.schema(key) for key in store.arrays},
            "attributes": kept,
            "replaces": identity(path),
        }


def inode(path: Path) -> int | None:
    """The number of a file or folder on its disk, None where there is none."""
    return path.stat().st_ino if path.exists() else None


def identity(path: Path) -> list[int] | None:
    """What tells a dataset's folder from another at the same path, None where there is none."""
    try:
        stat = (path / "zarr.json").stat()
    except OSError:
        return None
    return [stat.st_ino, stat.st_mtime_ns]


def link_store(path: Path, copy: Path) -> None:
    """The same store once more; files that are never changed are shared by links.

    Raises DataError for a link in it that leads out of it.
    """
    if copy.exists():
        shutil.rmtree(copy)
    root = DatasetRoot(path)

    def check(folder: str, names: list[str]) -> list[str]:
        for name in names:
            if os.path.islink(os.path.join(folder, name)):
                root.check(os.path.relpath(os.path.join(folder, name), path))
        return []

    def link(source: str, target: str) -> None:
        if not source.endswith(".json"):
            try:
                os.link(os.path.realpath(source), target)
                return
            except OSError:
                pass  # another file system, or one without links
        shutil.copy2(source, target)

    shutil.copytree(path, copy, copy_function=link, ignore=check)
