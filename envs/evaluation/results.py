"""What came of an evaluation's episodes, and how it is kept in a folder."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dipole.envs.media.video import Recording, video_grid, write_png, write_video
from dipole.policy.core.files import atomic_write


@dataclass(frozen=True)
class EpisodeResult:
    """One episode.

    success: whether any step reported it; None where the environment knows none.
    max_reward, final_reward: of its steps, the environment's own. steps: how many.
    episode_return: the sum of its rewards.
    mode: which way of doing the task it took; task: which one of several it was; None where the
    environment does not say.
    success_at_end: what the last step reported; None where no step reported any success.
    successes: by other definitions, {name: whether any step reported it}.
    ended_by: what ended it before its time: "state_not_finite", the simulator's state was NaN or
    infinite. It has failed, and rewards and steps are those before; 0 where there were none. None:
    nothing did.
    """

    seed: int
    success: bool | None
    max_reward: float
    final_reward: float
    steps: int
    episode_return: float = 0.0
    mode: str | None = None
    task: str | None = None
    success_at_end: bool | None = None
    successes: Mapping[str, bool] = field(default_factory=dict)
    ended_by: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, as `per_episode` has it; the return is called "return". Of mode, task and
        what else may be unknown only what is known is there."""
        plain = asdict(self)
        for name in ("mode", "task", "success_at_end", "successes", "ended_by"):
            if plain[name] is None or plain[name] == {}:
                del plain[name]
        plain["return"] = plain.pop("episode_return")
        return plain


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
