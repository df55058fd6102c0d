"""Minari datasets as a source: data/main_data.hdf5 with a group episode_N for each episode.

`actions` becomes `action`, `observations` becomes `observation`; of spaces that are dictionaries,
observations/<key> becomes <key> and actions/<key> becomes action.<key>. An episode has one
observation more than actions: the last one, after which nothing was done, is left out.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dipole.data.core.errors import DataError
from dipole.data.core.json_files import json_object, read_json
from dipole.data.sources.hdf5_file import Hdf5Episode, Hdf5File, hdf5_frames, is_hdf5, numbered
from dipole.data.sources.registry import MINARI_FILE as FILE
from dipole.data.sources.source import EpisodeRef, SourceEpisode, SourceInfo, is_valid_key

_PLACES = ("", "data")  # of the file, below the folder that is given


def find_minari(path: Path) -> Path | None:
    """The dataset's HDF5 file, from that file, its folder or the dataset's folder; or None."""
    if path.is_dir():
        files = [path / place / FILE for place in _PLACES]
        return next((file for file in files if is_hdf5(file)), None)
    return path if path.name == FILE and is_hdf5(path) else None


class MinariSource:
    """Reads the dataset at `path`; see `Source`."""

    def __init__(self, path: Path) -> None:
        file = find_minari(path)
        if file is None:
            raise DataError(f"{path}: no {FILE} of Minari in it")
        self._file = Hdf5File(file)
        episodes = numbered(file, self._file.names(""), "episode")
        if not episodes:
            raise DataError(f"{file}: no episode_N in it: not Minari's layout")
        first = episodes[min(episodes)]
        self._places, left_out = self._arrays(first)
        actions = [key for key in self._places if key == "action" or key.startswith("action.")]
        if not actions:
            raise DataError(f"{file}: {first} has no actions that are numbers")
        self._counted_by = self._places[actions[0]]
        self._refs = [EpisodeRef(n, self._length(name), name) for n, name in episodes.items()]
        frames = hdf5_frames(self._file, first, self._places)
        self._longer = {k for k, place in self._places.items() if place.startswith("observations")}
        self.info = SourceInfo(
            path,
            "Minari",
            frames,
            environment=_environment(file, self._file.attributes("")),
            left_out=left_out,
        )

    def episodes(self) -> Sequence[EpisodeRef]:
        return self._refs

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        """Raises DataError where an array is missing or has another length."""
        n = ref.n_frames or 0
        lengths = {key: n + 1 if key in self._longer else n for key in self._places}
        return Hdf5Episode(self._file, ref, ref.name, self._places, self.info.frames, lengths)

    def close(self) -> None:
        self._file.close()

    def _length(self, name: str) -> int:
        actions = self._file.array(f"{name}/{self._counted_by}")
        if actions is None or not actions.ndim:
            raise DataError(f"{self._file.path}: {name} has no {self._counted_by}")
        return int(actions.shape[0])

    def _arrays(self, episode: str) -> tuple[dict[str, str], dict[str, str]]:
        """An episode's arrays: key → place in it; and places that are not taken → why."""
        places: dict[str, str] = {}
        left_out: dict[str, str] = {}
        for name, _, why in self._file.arrays(episode):
            key = _key(name)
            if name.startswith("infos/"):
                left_out[name] = why or "infos are not what a policy sees"
            elif why:
                left_out[name] = why
            elif not is_valid_key(key) or key in places:
                left_out[name] = f"no key can be called {key!r}, or one is already"
            else:
                places[key] = name
        return dict(sorted(places.items())), left_out


def _key(place: str) -> str:
    head, _, rest = place.partition("/")
    if head == "observations":
        return rest.replace("/", ".") or "observation"
    if head == "actions":
        return f"action.{rest}".replace("/", ".").rstrip(".")
    return place.replace("/", ".")


def _environment(file: Path, attributes: dict[str, Any]) -> dict[str, Any]:
    """The environment's id, from metadata.json beside the file or the file's own attributes."""
    metadata = file.with_name("metadata.json")
    recorded = {**attributes, **(read_json(metadata) if metadata.is_file() else {})}
    spec = recorded.get("env_spec")
    spec = spec if isinstance(spec, dict) else json_object(spec)
    name = spec.get("id") or recorded.get("env_id") or recorded.get("dataset_id")
    version = spec.get("version")
    return {"id": str(name), "version": "" if version is None else str(version)} if name else {}
