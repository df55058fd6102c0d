"""Demonstrations: the episode store, its windows, and the batches that training sees.

Importing this room does not import torch; the loader does, when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

from dipole.data.bundle import bundled
from dipole.data.errors import CheckpointError, ConfigError, DataError, DipoleError
from dipole.data.features import TRANSFORMS, Feature, Features
from dipole.data.split import split_episodes
from dipole.data.statistics import Statistics
from dipole.data.store import EpisodeStore
from dipole.data.stored_array import StoredArray
from dipole.data.windows import Batch, Windows, WindowSpec
from dipole.data.writer import EpisodeWriter

if TYPE_CHECKING:
    from dipole.data.loader import Loader, make_loader

__all__ = [
    "TRANSFORMS",
    "Batch",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DipoleError",
    "EpisodeStore",
    "EpisodeWriter",
    "Feature",
    "Features",
    "Loader",
    "Statistics",
    "StoredArray",
    "WindowSpec",
    "Windows",
    "bundled",
    "make_loader",
    "split_episodes",
]


def __getattr__(name: str) -> Any:
    if name in ("Loader", "make_loader"):
        from dipole.data import loader

        return getattr(loader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
