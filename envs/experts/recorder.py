"""A dataset of demonstrations: begun, gone on with where it was interrupted, and filmed."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dipole.data.core.errors import DataError
from dipole.data.recording.episode_writer import EpisodeWriter
from dipole.data.recording.record import Demonstration
from dipole.data.store.numbers import SEED
from dipole.data.store.partial_folder import RECORDING, partial_folder
from dipole.data.store.store import EpisodeStore
from dipole.envs.contract import EnvSpec
from dipole.envs.experts import expert_name
from dipole.envs.experts.demonstrate import DemonstrationSpec, maker
from dipole.envs.experts.recorded import RecordedKeys, recorded_schema
from dipole.envs.experts.teaching.labels import labels_schema
from dipole.envs.media.video import Recording, video_grid, write_video
from dipole.envs.registry import environment_version

ATTRIBUTE = "recording"  # how a dataset was recorded, in its attributes
RESUMED_BY = "the same command with resume=true"


def described(spec: DemonstrationSpec, keys: RecordedKeys, **more: Any) -> dict[str, Any]:
    """How demonstrations are made, as the dataset says it: plain JSON."""
    said = {
        "environment": spec.environment.to_dict(),
        "expert": spec.expert,
        "keys": dict(keys.entries),
        "disturbance": spec.disturbance and _plain(asdict(spec.disturbance)),
        "takeover": spec.takeover and asdict(spec.takeover),
        "teaching": spec.teaching and asdict(spec.teaching),
        **more,
    }
    return {name: value for name, value in said.items() if value is not None}


def begin(
    output: Path, spec: DemonstrationSpec, fps: float, recording: Mapping[str, Any]
) -> EpisodeWriter:
    """The writer of a new dataset; it appears at `output` when the writer is closed."""
    schema = recorded_schema(spec.features, spec.disturbance is not None, spec.live_targets)
    if spec.teaching is not None:
        action = None if spec.features is None else spec.features.action
        schema |= labels_schema(action, spec.teaching.every)
    writer = EpisodeWriter(
        output,
        fps=fps,
        features=schema,
        environment={**environment_version(spec.environment), **spec.environment.meaning},
        attributes={ATTRIBUTE: dict(recording)},
    )
    writer.resumed_by = RESUMED_BY
    return writer


def is_begun(output: Path) -> bool:
    """Whether there is a dataset, finished or not."""
    return output.exists() or (partial_folder(output) / RECORDING).exists()


def finished_episodes(output: Path, recording: Mapping[str, Any]) -> int | None:
    """Episodes of a finished dataset; None where there is none, or one that is being written.

    Raises DataError where it was recorded in another way.
    """
    if not output.exists() or (partial_folder(output) / RECORDING).exists():
        return None
    with EpisodeStore.open(output) as store:
        said = SEED in store.episode_numbers() and store.attributes.get(ATTRIBUTE)
        _check_recording(output, said, recording)
        return store.n_episodes


def resumed(output: Path, recording: Mapping[str, Any]) -> EpisodeWriter:
    """The writer of a dataset that was begun in the same way.

    Raises DataError, naming the settings, where it was begun in another.
    """
    writer = EpisodeWriter.resume(output)
    writer.resumed_by = RESUMED_BY
    try:
        seeds = all(SEED in numbers for numbers in writer.episode_numbers)
        _check_recording(output, seeds and writer.attributes.get(ATTRIBUTE), recording)
    except BaseException as error:
        writer.__exit__(type(error), error, error.__traceback__)
        raise
    return writer


def _check_recording(output: Path, before: Any, recording: Mapping[str, Any]) -> None:
    if not isinstance(before, dict):
        raise DataError(
            f"{output}: does not say how it was recorded, so it cannot be gone on with: record "
            "into another place, and join both by dipole data convert --also"
        )
    environment = EnvSpec.read(recording["environment"])
    before, now = (
        {
            **said,
            "expert": expert_name(said.get("expert"), environment),
            "environment": _without_timeout(said.get("environment")),
        }
        for said in (before, json.loads(json.dumps(recording)))  # as a dataset says it
    )
    other = [k for k in {**before, **now} if before.get(k) != now.get(k)]
    if other:
        raise DataError(
            f"{output}: was recorded with {_settings(before, other)}, and now it is "
            f"{_settings(now, other)}: resume with the same settings, or record into another place"
        )


def _without_timeout(environment: Any) -> Any:
    """It changes no frame, and whom it was too short for resumes with a longer one."""
    if not isinstance(environment, dict):
        return environment
    return {name: value for name, value in environment.items() if name != "timeout"}


def next_seed(writer: EpisodeWriter, first: int) -> int:
    """The seed behind the last one that is in the dataset."""
    return max((numbers[SEED] for numbers in writer.episode_numbers), default=first - 1) + 1


def add(writer: EpisodeWriter, demonstration: Demonstration) -> None:
    """Write it, with what is known of the episode as a whole."""
    writer.add_episode(demonstration.frames, demonstration.words, demonstration.numbers)


def film(path: Path, spec: DemonstrationSpec, seeds: list[int], fps: float) -> None:
    """A video of the demonstrations of these seeds side by side, made once more for it.

    Raises whatever the environment raises where it cannot be drawn.
    """
    # Pictures that only a dataset needs are not rendered.
    bare = replace(spec, features=None, targets={})
    make = maker(bare, render=True)
    try:
        write_video(path, video_grid([_filmed(make, seed) for seed in seeds]), fps)
    finally:
        make.close()


def video_path(output: Path) -> Path:
    """Beside the dataset: demos.mp4 for demos.zarr.zip."""
    return output.with_name(f"{output.name.removesuffix('.zip').removesuffix('.zarr')}.mp4")


def _filmed(make: Any, seed: int) -> Recording:
    with make.environment.filming() as film:
        demonstration = make(seed)
    return Recording(seed, film.frames, film.rewards, demonstration.success, done=True)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _settings(said: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name}={said.get(name)!r}" for name in names)
