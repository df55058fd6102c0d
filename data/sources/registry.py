"""The formats that `open_source` recognises; plugins add theirs to `FORMATS`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dipole.data.core.errors import DataError
from dipole.data.core.registry import Registry
from dipole.data.sources.source import Source
from dipole.data.store.bundle import dataset_path


@dataclass(frozen=True)
class Format:
    """How a format is recognised and opened.

    looks: What a person sees of it, e.g. "a folder with meta/info.json".
    sniff: Whether what lies at a path is of this format; cheap, and never raises.
    open: The source at a path; raises DataError.
    """

    looks: str
    sniff: Callable[[Path], bool]
    open: Callable[[Path], Source]


FORMATS: Registry[Format] = Registry("dataset format")


def open_source(path: str | Path) -> Source:
    """The dataset at `path` or "bundled:NAME", its format recognised by what lies there.

    Raises DataError where there is nothing, or nothing that is known.
    """
    place = dataset_path(path)
    if not place.exists():
        raise DataError(f"{place}: there is no dataset here; check the path")
    for name in FORMATS.names():
        if FORMATS[name].sniff(place):
            return FORMATS[name].open(place)
    known = "; ".join(f"{name} ({FORMATS[name].looks})" for name in FORMATS.names())
    raise DataError(f"{place}: not a dataset that is known. Known are {known}")


def _is_hdf5(path: Path) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def _is_lerobot(path: Path) -> bool:
    return (path / "meta" / "info.json").is_file()


def _is_zarr(path: Path) -> bool:
    return not _is_hdf5(path) and not _is_lerobot(path)


def _lerobot(path: Path) -> Source:
    from dipole.data.sources.lerobot.reader import LeRobotSource

    return LeRobotSource(path)


def _hdf5(path: Path) -> Source:
    from dipole.data.sources.robomimic import RobomimicSource

    return RobomimicSource(path)


def _zarr(path: Path) -> Source:
    from dipole.data.sources.zarr_store import StoreSource

    return StoreSource(path)


FORMATS.add("LeRobot")(Format("a folder with meta/info.json", _is_lerobot, _lerobot))
FORMATS.add("robomimic")(Format("HDF5 with data/demo_N", _is_hdf5, _hdf5))
FORMATS.add("zarr")(Format("a folder or zip with data/ and meta/", _is_zarr, _zarr))
