"""`dipole record`: make demonstrations, by the expert or by hand in a window."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dipole.apps.compose import run
from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping

if TYPE_CHECKING:
    from dipole.data.recording.record import Demonstration

Config = dict[str, Any]
TAKEOVER_STEPS, EPISODES = 200, 200


@dataclass(frozen=True)
class RecordConfig:
    """Who shows what, how often, and where it goes; configs/record.yaml says what each is."""

    output: str
    expert: str | None = None
    mouse: bool = False
    episodes: int | None = None
    seed: int = 0
    drift: float | None = None
    shoves: float | None = None
    takeover: str | None = None
    takeover_steps: int | None = None
    minimum: int = 16
    workers: int = 0
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.mouse and (self.expert or self.takeover):
            raise ConfigError("mouse=true excludes expert=... and takeover=...: choose who acts")
        if self.takeover_steps is not None and self.takeover is None:
            raise ConfigError(
                f"takeover_steps={self.takeover_steps}, but nobody acts before: give takeover=RUN"
            )
        for name, least in (
            ("episodes", 1),
            ("seed", 0),
            ("drift", 0),
            ("takeover_steps", 1),
            ("minimum", 1),
            ("workers", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name}={value}: it is at least {least}")
        if self.shoves is not None and not 0 <= self.shoves <= 1:
            raise ConfigError(f"shoves={self.shoves}: a probability is between 0 and 1")
        if self.fps is not None and not self.fps > 0:
            raise ConfigError(f"fps={self.fps}: frames a second are a positive number")


def main(argv: list[str]) -> int:
    return run("record", argv, record)


def record(config: Config) -> int:
    """Record, print how much. Returns 0."""
    from dipole.data.recording.episode_writer import EpisodeWriter
    from dipole.envs.contract import EnvSpec
    from dipole.envs.registry import environment_version

    task = config["task"]
    said = {key: value for key, value in config.items() if key not in ("task", "overrides")}
    settings = from_mapping(RecordConfig, said, "")
    if task.get("environment") is None:
        raise ConfigError(f"task {task['name']!r} has no simulator to record in")
    spec = EnvSpec.read(task["environment"])
    name, options = spec.id, dict(spec.options)
    make = _by_mouse if settings.mouse else _by_expert
    made = make(settings, name, options)
    fps = settings.fps or spec.fps or frame_rate(name, options)
    output = Path(settings.output).expanduser()
    kept = frames = 0
    # A demonstration is a person's time: what was recorded before an interruption is kept.
    with EpisodeWriter(output, fps=fps, environment=environment_version(name)) as writer:
        try:
            for demonstration in made:
                writer.add_episode(demonstration.frames)
                kept, frames = kept + 1, frames + len(demonstration)
                if settings.mouse or kept % 10 == 0:
                    print(
                        f"{kept} episodes, {frames} frames, up to seed {demonstration.seed}",
                        flush=True,
                    )
        except KeyboardInterrupt:
            if not kept:
                raise
            print("interrupted: keeping what there is")
    print(f"{output}: {kept} episodes, {frames} frames")
    return 0


def frame_rate(environment: str, options: Mapping[str, Any]) -> float:
    """Frames a second of a simulator: its steps, of which each is a frame.

    Raises ConfigError where it does not say.
    """
    from dipole.envs.registry import make_env
    from dipole.envs.rollout import rate

    found = rate.frame_rate(partial(make_env, environment, **options))
    if found is None:
        raise ConfigError(f"environment {environment!r} does not say how fast it is: give fps=N")
    return found


def _by_expert(
    settings: RecordConfig, environment: str, options: Mapping[str, Any]
) -> Iterator["Demonstration"]:
    from dipole.data.recording.record import successful
    from dipole.envs.contract import EnvSpec
    from dipole.envs.experts import find_expert
    from dipole.envs.experts.action_noise import DisturbanceSpec
    from dipole.envs.experts.demonstrate import demonstrations
    from dipole.envs.experts.intervention import TakeoverSpec
    from dipole.policy.checkpoint import find_checkpoint

    entry = find_expert(settings.expert, EnvSpec.read(environment))
    asked = {"drift": settings.drift, "shove_probability": settings.shoves}
    given: Any = {name: value for name, value in asked.items() if value is not None}
    disturbance = replace(entry.disturbance or DisturbanceSpec(), **given)
    takeover = None
    if settings.takeover is not None:
        run = find_checkpoint(Path(settings.takeover).expanduser())
        takeover = TakeoverSpec(str(run), settings.takeover_steps or TAKEOVER_STEPS)
    every = demonstrations(
        entry.environment, settings.seed, disturbance, settings.workers, takeover
    )
    return successful(every, settings.episodes or EPISODES, settings.minimum)


def _by_mouse(
    settings: RecordConfig, environment: str, options: Mapping[str, Any]
) -> Iterator["Demonstration"]:
    from dipole.envs.pusht.mouse import MouseWindow, mouse_demonstrations
    from dipole.envs.registry import make_env

    made = make_env(environment, observation=("state",), **{"render_size": 640, **options})
    window = MouseWindow(made)
    return mouse_demonstrations(window, settings.seed, settings.episodes, settings.minimum)
