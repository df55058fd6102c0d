"""ManiSkill's demonstrations as a source: an .h5 with a group traj_N for each episode.

`actions` becomes `action`, obs/agent/qpos becomes agent.qpos, and what a simulator is set to,
env_states/<key>, keeps its name. The .json of the same name says the environment and its rate.
"""

from pathlib import Path
from typing import Any

from dipole.data.core.json_files import read_json
from dipole.data.sources.hdf5_file import Hdf5File
from dipole.data.sources.hdf5_trajectories import TrajectorySource
from dipole.data.sources.source import positive_number


def open_maniskill(path: Path) -> TrajectorySource:
    """The demonstrations in the file `path`; raises DataError where there are none."""
    sidecar = path.with_suffix(".json")
    recorded = read_json(sidecar) if sidecar.is_file() else {}
    info = recorded.get("env_info")
    info = info if isinstance(info, dict) else {}
    kwargs = info.get("env_kwargs")
    return TrajectorySource(
        path,
        Hdf5File(path),
        "ManiSkill",
        prefix="traj",
        longer=("obs", "env_states"),
        skipped={"obs/sensor_param": "where cameras are is not what a policy sees"},
        key=_key,
        environment={"id": str(info["env_id"]), "version": ""} if info.get("env_id") else {},
        fps=_control_rate(kwargs if isinstance(kwargs, dict) else {}),
    )


def _key(place: str) -> str:
    if place == "actions":
        return "action"
    if place == "obs":
        return "observation"
    return place.removeprefix("obs/").removeprefix("sensor_data/").replace("/", ".")


def _control_rate(kwargs: dict[str, Any]) -> float | None:
    """Actions a second, where the environment was made with a rate of its own."""
    settings = kwargs.get("sim_config")
    return positive_number((settings if isinstance(settings, dict) else {}).get("control_freq"))
