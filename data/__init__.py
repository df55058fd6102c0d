"""Demonstrations: the episode store, its windows, and the batches that training sees.

Importing this room imports nothing else; what it holds comes when it is first asked for. So a
robot's computer needs no zarr, and whoever only reads episodes needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dipole.data.bundle import bundled
    from dipole.data.errors import CheckpointError, ConfigError, DataError, DipoleError
    from dipole.data.features import TRANSFORMS, Feature, Features
    from dipole.data.formats.video import Clip
    from dipole.data.frame_array import FrameArray
    from dipole.data.loader import Loader, make_loader
    from dipole.data.split import split_episodes
    from dipole.data.statistics import Statistics
    from dipole.data.store import EpisodeStore
    from dipole.data.stored_array import StoredArray
    from dipole.data.window_spec import WindowSpec
    from dipole.data.windows import Batch, Windows
    from dipole.data.writer import EpisodeWriter

__all__ = [
    "TRANSFORMS",
    "Batch",
    "CheckpointError",
    "Clip",
    "ConfigError",
    "DataError",
    "DipoleError",
    "EpisodeStore",
    "EpisodeWriter",
    "Feature",
    "Features",
    "FrameArray",
    "Loader",
    "Statistics",
    "StoredArray",
    "WindowSpec",
    "Windows",
    "bundled",
    "make_loader",
    "split_episodes",
]

_MODULES = {
    "bundle": ("bundled",),
    "errors": ("CheckpointError", "ConfigError", "DataError", "DipoleError"),
    "features": ("TRANSFORMS", "Feature", "Features"),
    "formats.video": ("Clip",),
    "frame_array": ("FrameArray",),
    "loader": ("Loader", "make_loader"),
    "split": ("split_episodes",),
    "statistics": ("Statistics",),
    "store": ("EpisodeStore",),
    "stored_array": ("StoredArray",),
    "window_spec": ("WindowSpec",),
    "windows": ("Batch", "Windows"),
    "writer": ("EpisodeWriter",),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value
