"""HDF5 in robomimic's layout as a source: data/demo_N/actions, states, and perhaps obs/<key>.

`actions` becomes `action`, obs/<key> becomes <key> and obs/robot0/joint_pos becomes
robot0.joint_pos; what is left of a demo's arrays keeps its name. next_obs repeats obs and is left
out, as are text and whatever lies in other files. mask/<name> become groups of episodes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dipole.data.core.errors import DataError
from dipole.data.core.json_files import json_object
from dipole.data.sources.hdf5_file import Hdf5Episode, Hdf5File, hdf5_frames, numbered
from dipole.data.sources.source import (
    EpisodeRef,
    SourceEpisode,
    SourceInfo,
    SourceWarnings,
    positive_number,
    source_attributes,
    task_spans,
)


class RobomimicSource(SourceWarnings):
    """Reads the file at `path`; see `Source`."""

    def __init__(self, path: Path) -> None:
        self._file = Hdf5File(path)
        self._path = path
        demos = numbered(path, self._file.names("data"), "demo")
        if not demos:
            raise DataError(
                f"{path}: no data/demo_N in it: not robomimic's layout. Write it with "
                "EpisodeWriter instead (docs/data-format.md)"
            )
        self._refs = [EpisodeRef(n, self._length(name), name) for n, name in demos.items()]
        first = next((ref for ref in self._refs if ref.n_frames), self._refs[0])
        self._places, left_out = self._arrays(first.name)
        if "action" not in self._places:
            raise DataError(f"{path}: data/{first.name}/actions: {left_out['actions']}")
        attributes = self._file.attributes("data")
        fps, environment = _environment(attributes)
        self._tasks = task_spans(_instruction(attributes))
        groups, warnings = self._masks({name: number for number, name in demos.items()})
        actions = self._file.array(f"data/{first.name}/actions")
        if actions is not None and actions.ndim == 1:
            warnings.append(f"{path}: actions have one axis: taken as vectors of one number")
        info = SourceInfo(
            path,
            "HDF5 of robomimic",
            hdf5_frames(self._file, f"data/{first.name}", self._places),
            fps,
            environment,
            left_out=left_out,
            warnings=tuple(warnings),
            groups=groups,
            attributes=source_attributes({**self._file.attributes(""), **attributes}),
        )
        super().__init__(info)

    def episodes(self) -> Sequence[EpisodeRef]:
        return self._refs

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        places, _ = self._arrays(ref.name)
        self.warn_of_others(
            (places[key] for key in set(places) - set(self._places)), self._places.values()
        )
        group = f"data/{ref.name}"
        lengths = dict.fromkeys(self._places, ref.n_frames or 0)
        return Hdf5Episode(
            self._file, ref, group, self._places, self._info.frames, lengths, self._tasks
        )

    def close(self) -> None:
        self._file.close()

    def _length(self, name: str) -> int:
        actions = self._file.array(f"data/{name}/actions")
        if actions is None or not actions.ndim:
            has = ", ".join(self._file.names(f"data/{name}")) or "nothing"
            raise DataError(
                f"{self._path}: data/{name} has no actions: not robomimic's layout. It has {has}"
            )
        return int(actions.shape[0])

    def _arrays(self, demo: str) -> tuple[dict[str, str], dict[str, str]]:
        """A demo's arrays: key → place in it; and places that are not taken → why."""
        places: dict[str, str] = {}
        left_out: dict[str, str] = {}
        for name, _, why in self._file.arrays(f"data/{demo}"):
            key = _key(name)
            if name.startswith("next_obs"):
                left_out["next_obs"] = "it repeats obs, one frame later"
            elif why:
                left_out[name] = why
            elif key in places:
                kept, dropped = sorted((places[key], name), key=_precedence)
                places[key], left_out[dropped] = kept, f"{kept} has the same name"
            else:
                places[key] = name
        return dict(sorted(places.items())), left_out

    def _masks(self, numbers: dict[str, int]) -> tuple[dict[str, tuple[int, ...]], list[str]]:
        """Episodes of each of robomimic's filter keys, mask/train and so on; and warnings."""
        groups = {}
        warnings = []
        for name in self._file.names("mask"):
            demos = self._file.words(f"mask/{name}")
            if demos is None:
                continue
            groups[name] = tuple(numbers[demo] for demo in demos if demo in numbers)
            unknown = [demo for demo in demos if demo not in numbers]
            if unknown:
                warnings.append(
                    f"{self._path}: mask/{name} names {len(unknown)} demos that are not there, "
                    f"such as {unknown[0]!r}"
                )
        return groups, warnings


def _key(place: str) -> str:
    if place == "actions":
        return "action"
    return place.removeprefix("obs/").replace("/", ".")


def _precedence(place: str) -> int:
    """Of two arrays of one name: actions before observations before the rest."""
    return 0 if place == "actions" else 1 if place.startswith("obs/") else 2


def _environment(attributes: dict[str, Any]) -> tuple[float | None, dict[str, Any]]:
    """Frames a second and the environment, as robomimic and robosuite write them."""
    recorded = json_object(attributes.get("env_args")) or json_object(attributes.get("env_info"))
    kwargs = recorded.get("env_kwargs")
    settings = kwargs if isinstance(kwargs, dict) else recorded
    name = recorded.get("env_name") or attributes.get("env")
    version = recorded.get("env_version") or attributes.get("repository_version") or ""
    environment = {"id": str(name), "version": str(version)} if name else {}
    return positive_number(settings.get("control_freq")), environment


def _instruction(attributes: dict[str, Any]) -> str:
    """What is to be done in all demos of a file, as LIBERO writes it."""
    words = json_object(attributes.get("problem_info")).get("language_instruction")
    words = words[0] if isinstance(words, list) and words else words
    return words.strip().strip('"') if isinstance(words, str) else ""
