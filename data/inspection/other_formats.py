"""Datasets of other formats: what they are, and that they are to be converted."""

from pathlib import Path

from dipole.data.core.errors import DataError
from dipole.data.inspection.findings import counted
from dipole.data.sources.registry import FORMATS
from dipole.data.store.bundle import dataset_path
from dipole.data.store.objects.url import DatasetPath, ObjectUrl
from dipole.data.store.store import EpisodeStore

STORE = "zarr"  # the format that is read as it is
MOST_KEYS = 8  # that are listed


def open_store(path: str | DatasetPath) -> EpisodeStore:
    """The episode store at `path` or "bundled:NAME"; raises DataError, naming the format and the
    command that converts it, for a dataset of another one."""
    refuse_other_format(path)
    return EpisodeStore.open(path)


def refuse_other_format(path: str | DatasetPath) -> None:
    """Raise DataError where `path` is a dataset that has to be converted first."""
    place = dataset_path(path)
    if isinstance(place, ObjectUrl) or not place.exists():
        return
    for name in FORMATS.names():
        if name != STORE and FORMATS[name].sniff(place):
            raise DataError(
                f"{place}: {_described(name, place)}. It is not read as it is: convert it by "
                f"`dipole data convert {place} {place.stem}.zarr`"
            )


def _described(name: str, place: Path) -> str:
    """What the dataset is, with episodes and keys where it can be opened."""
    try:
        source = FORMATS[name].open(place)
    except DataError as error:
        return f"{name}, and it cannot be opened ({error})"
    try:
        keys = list(source.info.frames)
        more = f" and {len(keys) - MOST_KEYS} more" if len(keys) > MOST_KEYS else ""
        listed = ", ".join(keys[:MOST_KEYS])
        count = counted(len(source.episodes()), "episode")
        return f"{source.info.format}, {count} with {listed}{more}"
    finally:
        source.close()
