"""The formats that `open_source` recognises; plugins add theirs to `FORMATS`."""

import os
import re
from collections.abc import Callable, Collection, Iterable
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from dipole.data.core.errors import DataError
from dipole.data.core.file_kinds import begins_with, is_hdf5, is_mcap
from dipole.data.core.registry import Registry
from dipole.data.sources.combine.renamed import without_odd_names
from dipole.data.sources.source import Source
from dipole.data.store.bundle import dataset_path
from dipole.data.store.objects.url import DatasetPath, ObjectUrl


@dataclass(frozen=True)
class Format:
    """How a format is recognised and opened.

    looks: What a person sees of it, e.g. "a folder with meta/info.json".
    sniff: Whether what lies at a path is of this format; cheap.
    open: The source at a path; raises DataError.
    """

    looks: str
    sniff: Callable[[Path], bool]
    open: Callable[[Path], Source]


FORMATS: Registry[Format] = Registry("dataset format")

MINARI_FILE = "main_data.hdf5"

# What people have that is of no known format, by how it looks: what to do about it.
_HINTS = (
    ("*.bag", "ROS 1 bags: convert them to MCAP first (`mcap convert`, or rosbags-convert)"),
    ("*.db3", "rosbag2 in sqlite: convert it first with `ros2 bag convert`, storage mcap"),
    ("*.arrow", "Arrow files: of Minari, download the dataset as hdf5; of Hugging Face datasets, "
                "take LeRobot's folder with meta/info.json"),
    ("*.parquet", "parquet without LeRobot's meta/info.json: give the folder that holds meta/"),
    ("*.pkl", "pickles, which are never loaded because that executes what they say: write their "
              "episodes with EpisodeWriter (docs/data-format.md)"),
    ("*.pt", "PyTorch files, which are never loaded because that executes what they say: write "
             "their episodes with EpisodeWriter (docs/data-format.md)"),
    ("*.npy", "single arrays: save each episode as an .npz of its arrays"),
    ("*.mp4", "videos without a dataset: write the episodes with EpisodeWriter and Clip "
              "(docs/data-format.md)"),
)  # fmt: skip


def open_source(path: str | DatasetPath, kept: Collection[str] = ()) -> Source:
    """The dataset at `path` or "bundled:NAME", its format recognised by what lies there.

    Keys whose names no dataset can have are left out, but for those of `kept`, which are to be
    renamed. Raises DataError where there is nothing, or nothing that is known.
    """
    place = dataset_path(path)
    if isinstance(place, ObjectUrl):
        from dipole.data.sources.zarr_store import StoreSource

        # The one format that is read from there.
        return without_odd_names(StoreSource(place), kept)
    if not place.exists():
        raise DataError(f"{place}: there is no dataset here; check the path")
    name = format_of(place)
    if name:
        return without_odd_names(FORMATS[name].open(place), kept)
    known = "; ".join(f"{name}: {FORMATS[name].looks}" for name in FORMATS.names())
    raise DataError(
        f"{place}: not a dataset that is known{_hint(place)}. Known are {known}. For a format of "
        "your own see docs/architecture.md, and EpisodeWriter (docs/data-format.md)"
    )


def format_of(path: Path) -> str:
    """The name of the format of what lies at a path, or "" where none is recognised."""
    built_in = {name for name, *_ in _BUILT_IN}
    found = [name for name in FORMATS.names() if FORMATS[name].sniff(path)]
    return min(found, key=lambda name: name in built_in, default="")  # a plugin's goes first


def _hint(path: Path) -> str:
    """What is there instead, and what to do about it."""
    for pattern, advice in _HINTS:
        there = path.match(pattern) if path.is_file() else any(path.glob(pattern))
        if there:
            return f". It looks like {advice}"
    if path.is_dir():
        inside = [entry for entry in sorted(path.iterdir())[:100] if format_of(entry)]
        if len(inside) == 1:
            return f". {inside[0].name!r} in it is one: give that"
        if inside:
            return f". {inside[0].name!r} in it is one: give that, and others with --also"
        if not any(path.iterdir()):
            return ". The folder is empty"
    return ""


def sorted_by_number(paths: Iterable[Path]) -> list[Path]:
    """By name, numbers in names by their size: run_2 before run_10."""
    return sorted(
        paths,
        key=lambda path: [
            (0, int(part), "") if part.isdecimal() else (1, 0, part)
            for part in re.split(r"([0-9]+)", path.name)
        ],
    )


def _is_lerobot(path: Path) -> bool:
    # A link to nothing too: that its file was not downloaded is said when it is opened.
    return os.path.lexists(path / "meta" / "info.json")


def _is_minari(path: Path) -> bool:
    if path.is_dir():
        return any(is_hdf5(path / place / MINARI_FILE) for place in ("", "data"))
    return path.name == MINARI_FILE and is_hdf5(path)


def _is_aloha(path: Path) -> bool:
    """A file with /action, or a folder of such."""
    if path.is_dir():
        files = [*path.glob("*.hdf5"), *path.glob("*.h5")]
        return bool(files) and _is_aloha(sorted_by_number(files)[0])
    return "action" in _root_names(path)


def _is_maniskill(path: Path) -> bool:
    return any(name.startswith("traj_") for name in _root_names(path))


def _is_robomimic(path: Path) -> bool:
    others = (_is_minari, _is_aloha, _is_maniskill)
    return is_hdf5(path) and not any(other(path) for other in others)


def _root_names(path: Path) -> list[str]:
    """What is at the root of an HDF5 file, [] for any other."""
    if not is_hdf5(path):
        return []
    from dipole.data.sources.hdf5_file import Hdf5File

    try:
        with closing(Hdf5File(path)) as file:
            return file.names("")
    except DataError:
        return []


def _is_zarr(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).is_file() for name in ("zarr.json", ".zgroup"))
    # An .npz is a zip too, and so is whatever a browser packed.
    return begins_with(path, b"PK") and path.suffix != ".npz"


def _is_mcap(path: Path) -> bool:
    return is_mcap(path) or (
        path.is_dir() and any(any(path.glob(pattern)) for pattern in ("*.mcap", "*/*.mcap"))
    )


def _is_rlds(path: Path) -> bool:
    return ".tfrecord" in path.name if path.is_file() else any(path.glob("*.tfrecord*"))


def _is_npz(path: Path) -> bool:
    return path.suffix == ".npz" if path.is_file() else any(path.glob("*.npz"))


def _opener(module: str, name: str) -> Callable[[Path], Source]:
    """Opens with a class or function that is imported when it is needed."""

    def open_it(path: Path) -> Source:
        source: Source = getattr(import_module(f"dipole.data.sources.{module}"), name)(path)
        return source

    return open_it


_BUILT_IN = (
    ("ALOHA", "a file or folder of .hdf5, each with /action", _is_aloha, "aloha", "AlohaSource"),
    ("ManiSkill", "HDF5 with traj_N", _is_maniskill, "maniskill", "open_maniskill"),
    ("LeRobot", "a folder with meta/info.json", _is_lerobot, "lerobot.reader", "LeRobotSource"),
    ("MCAP", "a file or folder of .mcap", _is_mcap, "mcap.reader", "McapSource"),
    ("Minari", "a folder with data/main_data.hdf5", _is_minari, "minari", "open_minari"),
    ("RLDS", "a file or folder of .tfrecord", _is_rlds, "rlds.reader", "RldsSource"),
    ("npz", "a folder of .npz, one an episode", _is_npz, "npz_episodes", "NpzSource"),
    ("robomimic", "HDF5 with data/demo_N", _is_robomimic, "robomimic", "RobomimicSource"),
    ("zarr", "zarr with data/ and meta/episode_ends", _is_zarr, "zarr_store", "StoreSource"),
)
for _name, _looks, _sniff, _module, _opens in _BUILT_IN:
    FORMATS.add(_name)(Format(_looks, _sniff, _opener(_module, _opens)))
