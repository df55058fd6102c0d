"""Minari datasets as a source: data/main_data.hdf5 with a group episode_N for each episode.

`actions` becomes `action`, `observations` becomes `observation`; of spaces that are dictionaries,
observations/<key> becomes <key> and actions/<key> becomes action.<key>, with _ for blanks.
"""

from pathlib import Path
from typing import Any

from dipole.data.core.errors import DataError
from dipole.data.core.file_kinds import is_hdf5
from dipole.data.core.json_files import json_object, read_json
from dipole.data.sources.hdf5_file import Hdf5File
from dipole.data.sources.hdf5_trajectories import TrajectorySource
from dipole.data.sources.registry import MINARI_FILE


def open_minari(path: Path) -> TrajectorySource:
    """The dataset in a folder, or of its HDF5 file; raises DataError where it is none."""
    places = [path / MINARI_FILE, path / "data" / MINARI_FILE] if path.is_dir() else [path]
    found = next((place for place in places if is_hdf5(place)), None)
    if found is None:
        raise DataError(f"{path}: no {MINARI_FILE} of Minari in it")
    file = Hdf5File(found)
    return TrajectorySource(
        path,
        file,
        "Minari",
        prefix="episode",
        longer=("observations",),
        skipped={"infos/": "infos are not what a policy sees"},
        key=_key,
        environment=_environment(found, file.attributes("")),
    )


def _key(place: str) -> str:
    head, _, rest = place.replace(" ", "_").partition("/")
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
