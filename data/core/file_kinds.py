"""What lies at a path, told from its first bytes or the files in it, without opening it."""

import os
from pathlib import Path

_MAGIC = {"HDF5": b"\x89HDF\r\n\x1a\n", "MCAP": b"\x89MCAP0\r\n", "parquet": b"PAR1"}
_FOLDERS = {  # what is in a folder that is a dataset of others
    "MCAP": ("*.mcap", "*/*.mcap"),
    "RLDS": ("*.tfrecord*",),
    "npz": ("*.npz",),
    "HDF5": ("*.hdf5", "*.h5", "data/*.hdf5"),
}


def begins_with(path: Path, magic: bytes) -> bool:
    """Whether a path is a file that begins with these bytes."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def is_hdf5(path: Path) -> bool:
    """Whether a path is a file that begins as HDF5 files do."""
    return begins_with(path, _MAGIC["HDF5"])


def is_mcap(path: Path) -> bool:
    """Whether a path is a file that begins as MCAP files do."""
    return begins_with(path, _MAGIC["MCAP"])


def other_format(path: Path) -> str:
    """The format of what lies at a path, which is no episode store; "" where it is not known."""
    if path.is_file():
        by_name = {".npz": "npz"}.get(path.suffix, "RLDS" if ".tfrecord" in path.name else "")
        return next((n for n, magic in _MAGIC.items() if begins_with(path, magic)), by_name)
    if os.path.lexists(path / "meta" / "info.json"):
        return "LeRobot"
    found = (n for n, patterns in _FOLDERS.items() if any(any(path.glob(p)) for p in patterns))
    return next(found, "")


def convert_it(path: Path, format: str) -> str:
    """What is said of a dataset that is not read as it is."""
    return (
        f"{path}: {format}, which is not read as it is. Convert it by "
        f"`dipole data convert {path} {path.stem}.zarr`"
    )
