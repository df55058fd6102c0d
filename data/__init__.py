"""Demonstrations: the episode store, its windows, and the batches that training sees.

Importing this package imports nothing else; what it holds comes when it is first asked for. So a
robot's computer needs no zarr, and whoever only reads episodes needs no torch.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dipole.data.core import errors

if TYPE_CHECKING:
    from dipole.data.core.errors import CheckpointError as CheckpointError
    from dipole.data.core.errors import ConfigError as ConfigError
    from dipole.data.core.errors import DataError as DataError
    from dipole.data.core.errors import DipoleError as DipoleError
    from dipole.data.loading.features import TRANSFORMS as TRANSFORMS
    from dipole.data.loading.features import Feature as Feature
    from dipole.data.loading.features import Features as Features
    from dipole.data.loading.loader import Loader as Loader
    from dipole.data.loading.loader import make_loader as make_loader
    from dipole.data.loading.mixture.mixture import Mixture as Mixture
    from dipole.data.loading.mixture.mixture import MixturePart as MixturePart
    from dipole.data.loading.split import split_episodes as split_episodes
    from dipole.data.loading.statistics import Statistics as Statistics
    from dipole.data.loading.text import decode_text as decode_text
    from dipole.data.loading.text import encode_text as encode_text
    from dipole.data.loading.window_source import Batch as Batch
    from dipole.data.loading.window_source import WindowSource as WindowSource
    from dipole.data.loading.window_spec import WindowSpec as WindowSpec
    from dipole.data.loading.windows import Windows as Windows
    from dipole.data.recording.episode_writer import EpisodeWriter as EpisodeWriter
    from dipole.data.store.bundle import bundled as bundled
    from dipole.data.store.lazy_array import LazyArray as LazyArray
    from dipole.data.store.store import EpisodeStore as EpisodeStore
    from dipole.data.store.video import Clip as Clip
    from dipole.data.store.zarr_array import ZarrArray as ZarrArray
    from dipole.data.transforms.conversion import COLUMN_TRANSFORMS as COLUMN_TRANSFORMS

_MODULES = {
    "core.errors": ("CheckpointError", "ConfigError", "DataError", "DipoleError"),
    "loading.features": ("TRANSFORMS", "Feature", "Features"),
    "loading.loader": ("Loader", "make_loader"),
    "loading.mixture.mixture": ("Mixture", "MixturePart"),
    "loading.split": ("split_episodes",),
    "loading.statistics": ("Statistics",),
    "loading.text": ("decode_text", "encode_text"),
    "loading.window_source": ("Batch", "WindowSource"),
    "loading.window_spec": ("WindowSpec",),
    "loading.windows": ("Windows",),
    "recording.episode_writer": ("EpisodeWriter",),
    "store.bundle": ("bundled",),
    "store.lazy_array": ("LazyArray",),
    "store.store": ("EpisodeStore",),
    "store.video": ("Clip",),
    "store.zarr_array": ("ZarrArray",),
    "transforms.conversion": ("COLUMN_TRANSFORMS",),
}
# Robots and scripts written for the first edition import dipole.data.errors.
sys.modules[f"{__name__}.errors"] = errors

_WHERE = {name: module for module, names in _MODULES.items() for name in names}
__all__ = tuple(sorted(_WHERE))


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value
