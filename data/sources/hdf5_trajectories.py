"""HDF5 files in which each episode is a group with one observation more than actions.

The last observation, after which nothing was done, is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dipole.data.core.errors import DataError
from dipole.data.sources.hdf5_file import Hdf5Episode, Hdf5File, hdf5_frames, numbered
from dipole.data.sources.source import (
    EpisodeRef,
    SourceEpisode,
    SourceInfo,
    SourceWarnings,
)


class TrajectorySource(SourceWarnings):
    """Reads the groups PREFIX_N of an HDF5 file; see `Source`.

    path: What the user gave, for messages.
    file: The HDF5 file.
    format: Its name, for people.
    prefix: Of the groups' names.
    longer: Begin of the places whose arrays have one frame more than the actions.
    skipped: Begin of places that are not taken → why.
    key: Name of an array's key by its place in the group.
    environment: `id` and `version`.
    fps: Actions a second, None where that is not recorded.
    """

    def __init__(
        self,
        path: Path,
        file: Hdf5File,
        format: str,
        prefix: str,
        longer: tuple[str, ...],
        skipped: Mapping[str, str],
        key: Callable[[str], str],
        environment: dict[str, Any],
        fps: float | None = None,
    ) -> None:
        self._file, self._key, self._skipped = file, key, skipped
        groups = numbered(file.path, file.names(""), prefix)
        if not groups:
            raise DataError(f"{file.path}: no {prefix}_N in it: not {format}'s layout")
        first = groups[min(groups)]
        self._places, left_out = self._arrays(first)
        actions = [key for key in self._places if key == "action" or key.startswith("action.")]
        if not actions:
            raise DataError(f"{file.path}: {first} has no actions that are numbers")
        self._counted_by = self._places[actions[0]]
        self._refs = [EpisodeRef(n, self._length(name), name) for n, name in groups.items()]
        self._longer = {k for k, place in self._places.items() if place.startswith(longer)}
        frames = hdf5_frames(file, first, self._places)
        self._known = {*self._places.values(), *left_out}
        super().__init__(SourceInfo(path, format, frames, fps, environment, left_out=left_out))

    def episodes(self) -> Sequence[EpisodeRef]:
        return self._refs

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        """Raises DataError where an array is missing or has another length."""
        n = ref.n_frames or 0
        places, _ = self._arrays(ref.name)
        self.warn_of_others(places.values(), self._known)
        lengths = {key: n + 1 if key in self._longer else n for key in self._places}
        return Hdf5Episode(self._file, ref, ref.name, self._places, self._info.frames, lengths)

    def close(self) -> None:
        self._file.close()

    def _length(self, group: str) -> int:
        actions = self._file.array(f"{group}/{self._counted_by}")
        if actions is None or not actions.ndim:
            raise DataError(f"{self._file.path}: {group} has no {self._counted_by}")
        return int(actions.shape[0])

    def _arrays(self, group: str) -> tuple[dict[str, str], dict[str, str]]:
        """A group's arrays: key → place in it; and places that are not taken → why."""
        places: dict[str, str] = {}
        left_out: dict[str, str] = {}
        for place, _, why in self._file.arrays(group):
            key = self._key(place)
            skipped = [reason for begin, reason in self._skipped.items() if place.startswith(begin)]
            if why or skipped:
                left_out[place] = why or skipped[0]
            elif key in places:
                left_out[place] = f"a key is called {key!r} already"
            else:
                places[key] = place
        return dict(sorted(places.items())), left_out
