"""What an evaluation found, in the words of `metrics.json`, and how it is kept in a folder."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dipole.envs.media.video import Recording, appearing_whole, video_grid, write_png, write_video
from dipole.envs.metrics import mean_interval, wilson_interval


@dataclass(frozen=True)
class EpisodeResult:
    """One episode. success: whether any step reported it; rewards are the environment's own."""

    seed: int
    success: bool
    max_reward: float
    final_reward: float
    steps: int


def summarize(episodes: Sequence[EpisodeResult]) -> dict[str, Any]:
    """The scores of `metrics.json`, intervals at 95 % (see metrics.py for the methods)."""
    successes = sum(episode.success for episode in episodes)
    rewards = [episode.max_reward for episode in episodes]
    return {
        "episodes": len(episodes),
        "success_rate": successes / len(episodes),
        "success_ci95": list(wilson_interval(successes, len(episodes))),
        "max_reward_mean": float(np.mean(rewards)),
        "max_reward_ci95": list(mean_interval(rewards)),
        "final_reward_mean": float(np.mean([episode.final_reward for episode in episodes])),
        "per_episode": [asdict(episode) for episode in episodes],
    }


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
        with appearing_whole(written[0]) as unfinished:
            unfinished.write_text(json.dumps(self.metrics, indent=2, allow_nan=False) + "\n")
        if self.recordings:
            written.append(folder / "episodes.mp4")
            if self.video is None:
                write_video(written[-1], video_grid(self.recordings), self.fps)
            else:
                with appearing_whole(written[-1]) as unfinished:
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
