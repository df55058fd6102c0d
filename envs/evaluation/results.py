"""What an evaluation found, in the words of `metrics.json`, and how it is kept in a folder."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.envs.evaluation.metrics import mean_interval, wilson_interval
from dipole.envs.media.video import Recording, video_grid, write_png, write_video
from dipole.policy.core.files import atomic_write


@dataclass(frozen=True)
class EpisodeResult:
    """One episode.

    success: whether any step reported it; None where the environment knows none.
    max_reward, final_reward: of its steps, the environment's own. steps: how many.
    episode_return: the sum of its rewards.
    mode: which way of doing the task it took; None where the environment does not say.
    """

    seed: int
    success: bool | None
    max_reward: float
    final_reward: float
    steps: int
    episode_return: float = 0.0
    mode: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, as `per_episode` has it; the return is called "return", and a mode is there
        where it is known."""
        plain = asdict(self)
        if self.mode is None:
            del plain["mode"]
        plain["return"] = plain.pop("episode_return")
        return plain


def summarize(episodes: Sequence[EpisodeResult], score: str | None = None) -> dict[str, Any]:
    """The scores of `metrics.json`, intervals at 95 % (see metrics.py for the methods).

    score: the metric that decides; None: success_rate where success is known, or return_mean.
    Raises ConfigError for success_rate where it is not known.
    """
    rewards = [episode.max_reward for episode in episodes]
    returns = [episode.episode_return for episode in episodes]
    metrics = {
        "episodes": len(episodes),
        **_successes(episodes),
        "max_reward_mean": float(np.mean(rewards)),
        "max_reward_ci95": list(mean_interval(rewards)),
        "final_reward_mean": float(np.mean([episode.final_reward for episode in episodes])),
        "return_mean": float(np.mean(returns)),
        "return_ci95": list(mean_interval(returns)),
    }
    known = metrics["success_rate"] is not None
    name = score or ("success_rate" if known else "return_mean")
    if metrics[name] is None:
        raise ConfigError(
            f"environment.score is {name}, and no episode's info said whether it succeeded: say "
            "where it stands by environment.success, or set environment.score=return_mean"
        )
    return {
        **metrics,
        "score": metrics[name],
        "score_name": name,
        "per_episode": [episode.to_dict() for episode in episodes],
    }


def _successes(episodes: Sequence[EpisodeResult]) -> dict[str, Any]:
    """Where any episode knows success, one that said nothing has failed."""
    if all(episode.success is None for episode in episodes):
        return {"success_rate": None, "success_ci95": None}
    count = sum(bool(episode.success) for episode in episodes)
    interval = wilson_interval(count, len(episodes))
    return {"success_rate": count / len(episodes), "success_ci95": list(interval)}


def latency(seconds: Sequence[float], rows: int) -> dict[str, float]:
    """Percentiles of an inference call of `rows` rows, in ms, without the first, which warms up."""
    measured = 1e3 * np.asarray(seconds[1:] or seconds)
    p50, p99 = np.percentile(measured, [50, 99])
    return {"p50": float(p50), "p99": float(p99), "rows": rows, "calls": len(seconds)}


@dataclass
class Evaluation:
    """metrics: the content of `metrics.json`. episodes: in the order of their seeds.

    recordings: the filmed episodes. picture: chunks over scenes, [height, width, 3] uint8; None
    where nothing was filmed or actions have no place in the scene. looks: what an image policy
    looks at, [height, width, 3] uint8. aspects: of quality, [height, width, 3] uint8, where they
    were asked for. video: makes the recordings' mp4, where it is made elsewhere
    than in `save`.
    """

    metrics: dict[str, Any]
    episodes: list[EpisodeResult]
    recordings: list[Recording] = field(default_factory=list)
    picture: np.ndarray | None = None
    looks: np.ndarray | None = None
    aspects: np.ndarray | None = None
    fps: float = 10.0
    video: Callable[[], bytes] | None = None

    def save(self, folder: Path | str) -> list[Path]:
        """Write metrics.json, and episodes.mp4, chunks.png, looks.png, aspects.png where there are
        any: their paths.

        Each file appears whole or not at all, and replaces one of the same name.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / "metrics.json"]
        with atomic_write(written[0]) as unfinished:
            unfinished.write_text(json.dumps(self.metrics, indent=2, allow_nan=False) + "\n")
        if self.recordings:
            written.append(folder / "episodes.mp4")
            if self.video is None:
                write_video(written[-1], video_grid(self.recordings), self.fps)
            else:
                with atomic_write(written[-1]) as unfinished:
                    unfinished.write_bytes(self.video())
        for name, picture in (
            ("chunks.png", self.picture),
            ("looks.png", self.looks),
            ("aspects.png", self.aspects),
        ):
            if picture is not None:
                written.append(folder / name)
                write_png(written[-1], picture)
        return written
