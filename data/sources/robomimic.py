"""HDF5 in robomimic's layout as a source: data/demo_N/actions, states, and perhaps obs/<key>.

`actions` becomes `action` and obs/<key> becomes <key>; what is left of a demo's arrays keeps its
name. next_obs repeats obs and is left out, as are text, objects and links to other files.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.sources.source import (
    EpisodeRef,
    SourceEpisode,
    SourceInfo,
    TaskSpans,
    positive_number,
)
from dipole.data.store.schema import FrameSchema


class RobomimicSource:
    """Reads the file at `path`; see `Source`."""

    def __init__(self, path: Path) -> None:
        import h5py

        self._path = path
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise DataError(f"{path}: not a readable HDF5 file ({error}). Copy it again") from error
        demos = self._demos(h5py)
        first = self._file[f"data/demo_{demos[0]}"]
        self._places = dict(sorted(_datasets(first, h5py).items()))
        if "action" not in self._places:
            raise DataError(f"{path}: data/demo_{demos[0]} has no actions: not robomimic's layout")
        frames = {key: self._schema(key, first[place]) for key, place in self._places.items()}
        self._refs = [EpisodeRef(n, self._length(n), f"demo_{n}") for n in demos]
        attributes = self._file["data"].attrs
        self.info = SourceInfo(path, "HDF5 of robomimic", frames, *_environment(attributes))

    def episodes(self) -> Sequence[EpisodeRef]:
        return self._refs

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        return _Demo(self, ref)

    def close(self) -> None:
        self._file.close()

    def read(self, ref: EpisodeRef, key: str, start: int, stop: int) -> np.ndarray:
        place = f"{self._path}: data/{ref.name}/{self._places[key]}"
        try:
            values: np.ndarray = self._dataset(ref.id, key)[start:stop]
        except (OSError, RuntimeError) as error:
            raise DataError(f"{place}, frames {start} to {stop - 1}: damaged ({error})") from error
        if len(values) != stop - start:
            raise DataError(f"{place}: {start + len(values)} frames of {ref.n_frames}")
        return values

    def _demos(self, h5py: Any) -> list[int]:
        group = self._file.get("data")
        names = list(group) if isinstance(group, h5py.Group) else []
        numbers = sorted(int(name[5:]) for name in names if re.fullmatch(r"demo_\d+", name))
        if not numbers:
            raise DataError(
                f"{self._path}: no data/demo_N in it: not robomimic's layout. Write it with "
                "EpisodeWriter instead (docs/data-format.md)"
            )
        return numbers

    def _dataset(self, number: int, key: str) -> Any:
        group, place = self._file[f"data/demo_{number}"], self._places[key]
        if place not in group:
            raise DataError(f"{self._path}: data/demo_{number} has no {place}: leave the key out")
        return group[place]

    def _length(self, number: int) -> int:
        return int(self._dataset(number, "action").shape[0])

    def _schema(self, key: str, dataset: Any) -> FrameSchema:
        dtype = np.dtype(np.float32) if dataset.dtype == np.float64 else dataset.dtype
        shape = tuple(dataset.shape[1:])
        image = dtype == np.uint8 and len(shape) == 3
        kind = "action" if key == "action" else "image" if image else "state"
        return FrameSchema(shape, dtype, kind)


class _Demo:
    tasks: TaskSpans = ()

    def __init__(self, source: RobomimicSource, ref: EpisodeRef) -> None:
        self._source, self.ref = source, ref
        self.n_frames = ref.n_frames or 0

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        return self._source.read(self.ref, key, start, stop)

    def clip(self, key: str) -> None:
        return None


def _datasets(demo: Any, h5py: Any) -> dict[str, str]:
    """Arrays of numbers in a demo: key → place in it. Links to other files are not followed."""
    places = {}
    groups = [("", demo)] + ([("obs/", demo["obs"])] if "obs" in demo else [])
    for prefix, group in groups:
        for name in group:
            own = isinstance(group.get(name, getlink=True), h5py.HardLink)
            entry = group[name] if own else None
            if isinstance(entry, h5py.Dataset) and entry.dtype.kind in "biuf" and entry.ndim:
                places["action" if name == "actions" and not prefix else name] = prefix + name
    return places


def _environment(attributes: Any) -> tuple[float | None, dict[str, Any]]:
    """Frames a second and the environment, as robomimic and robosuite write them."""
    said = _json(attributes.get("env_args")) or _json(attributes.get("env_info"))
    kwargs = said.get("env_kwargs")
    settings = kwargs if isinstance(kwargs, dict) else said
    name = said.get("env_name") or attributes.get("env")
    version = said.get("env_version") or attributes.get("repository_version") or ""
    environment = {"id": str(name), "version": str(version)} if name else {}
    return positive_number(settings.get("control_freq")), environment


def _json(text: Any) -> dict[str, Any]:
    try:
        values = json.loads(text) if isinstance(text, str | bytes) else {}
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
