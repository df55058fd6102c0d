"""Settings of an evaluation; their values and what each means are in configs/evaluate.yaml."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.deploy.chunks.blending import MERGERS
from dipole.envs.media.video import check_video
from dipole.envs.quality.settings import AspectSettings
from dipole.envs.rollout.cluster.settings import ClusterSettings

OF_EPISODES = (
    "episodes",
    "delay",
    "workers",
    "n_envs",
    "cluster",
    "video_episodes",
    "video",
    "video_views",
    "keep_episodes",
)


@dataclass(frozen=True)
class EvaluationSettings:
    """Everything that `dipole evaluate` takes."""

    checkpoint: str
    part: str | None = None
    runtime: str = "auto"
    weights: str = "ema"
    solver: Mapping[str, Any] = field(default_factory=dict)
    guidance_scale: float | None = None
    costs: Sequence[Mapping[str, Any]] = ()
    environment: str | Mapping[str, Any] | None = None
    n_action_steps: int | None = None
    delay: int | None = None
    merger: str = "switch"
    merger_options: Mapping[str, Any] = field(default_factory=dict)
    episodes: int = 50
    seed: int = 0
    threads: int | None = None
    workers: int | None = None
    n_envs: int | None = None
    cluster: ClusterSettings | None = None
    video_episodes: int | None = None
    video: str = "first"
    video_views: bool = False
    picture: bool = True
    keep_episodes: str | None = None
    aspects: bool = False
    aspects_observations: int = 100
    aspects_samples: int = 16
    aspects_likelihood: int = 40
    dataset: str | None = None
    device: str = "auto"
    output: str | None = None

    def __post_init__(self) -> None:
        if self.merger not in MERGERS:
            MERGERS[self.merger]  # raises ConfigError with the nearest name
        check_video(self.video)
        if self.video_views and (self.video_episodes == 0 or self.delay is not None):
            why = "video_episodes=0" if self.video_episodes == 0 else f"delay={self.delay}"
            raise ConfigError(f"video_views=true with {why}: no video is made; leave one out")
        self._check_cluster()
        self._check_delay()
        AspectSettings(self.aspects_observations, self.aspects_samples, self.aspects_likelihood)
        for name, least in (("episodes", 1), ("seed", 0), ("workers", 0), ("video_episodes", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} is {value}; it must be at least {least}")

    def check_without_episodes(self) -> None:
        """Raise ConfigError for what is of episodes, where aspects alone are measured."""
        unset = {field.name: field.default for field in fields(self)}
        for name in OF_EPISODES:
            none = (unset[name], 0) if name in ("workers", "video_episodes") else (unset[name],)
            if getattr(self, name) not in none:
                raise ConfigError(
                    f"{name}={getattr(self, name)}: the task has no simulator, and without "
                    "episodes that does nothing; leave it out, or give environment=NAME"
                )

    def _check_cluster(self) -> None:
        if self.cluster is None:
            return
        if self.workers:
            raise ConfigError(
                f"workers={self.workers} with cluster={self.cluster.name}: its actors "
                "simulate in their place, so say cluster.actors=N"
            )
        if self.delay is not None:
            raise ConfigError(
                f"delay={self.delay} with cluster={self.cluster.name}: the control loop's "
                "episodes run on this machine; leave one of them out"
            )

    def _check_delay(self) -> None:
        """Nothing that was given does nothing, with the control loop or without it."""
        merging = "merger" if self.merger != "switch" else "merger_options"
        if self.delay is None and (self.merger != "switch" or self.merger_options):
            raise ConfigError(
                f"{merging}={getattr(self, merging)}, and no delay: chunks are merged by the "
                "control loop, so give delay=N, or leave it out"
            )
        if self.delay is None:
            return
        if self.keep_episodes is not None:
            raise ConfigError(
                f"keep_episodes={self.keep_episodes} with delay={self.delay}: episodes of the "
                "control loop are not kept; leave one of them out"
            )
        for name in ("workers", "threads", "n_envs", "video_episodes"):
            if getattr(self, name):
                raise ConfigError(
                    f"{name}={getattr(self, name)} with delay={self.delay}: the control loop's "
                    "episodes run in this process, without a video; leave one of them out"
                )
        if self.video != "first":
            raise ConfigError(
                f"video={self.video} with delay={self.delay}: no video is made; leave one out"
            )


def check_settings(config: Mapping[str, Any]) -> EvaluationSettings:
    """Raises ConfigError for an unknown setting, and for a value that cannot work."""
    given = {key: value for key, value in config.items() if key != "overrides"}
    return from_mapping(EvaluationSettings, given, "")
