"""What came of an evaluation's episodes, and how it is kept in a folder."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import StringIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.envs.media.video import Recording, video_grid, write_png, write_video
from dipole.policy.core.files import atomic_write

METRICS, VIDEO, PICTURES = (
    "metrics.json",
    "episodes.mp4",
    ("chunks.png", "looks.png", "looks_held_out.png", "aspects.png"),
)
TABLE = "episodes.csv"
EARLIER = "earlier"  # folders of evaluations that were there before, 1, 2, ...
OF_DATASETS = ("zarr.json", ".zgroup")


def check_folder(folder: Path, kept: str | None = None) -> None:
    """Raises ConfigError where an evaluation must not be written to, into a dataset, and where it
    cannot be. Nothing is made.

    kept: where the evaluation keeps its episodes, which becomes a dataset.
    """
    try:
        is_dataset = any((folder / name).exists() for name in OF_DATASETS)
        places = (folder, *folder.parents)
        there = next(each for each in places if each.exists() or each.is_symlink())
        with TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ConfigError(
            f"output {folder}: nothing can be written there ({error.strerror}); name another folder"
        ) from error
    if is_dataset:
        raise ConfigError(f"output {folder}: a dataset lies there; name another folder")
    if kept and folder.resolve().is_relative_to(Path(kept).expanduser().resolve()):
        raise ConfigError(
            f"output={folder} lies in keep_episodes={kept}, which becomes a dataset: name another "
            "folder"
        )


def set_aside(folder: Path) -> Path | None:
    """Move an evaluation that lies in `folder` to the first free number of `folder`/earlier, so
    that none of its files stands beside those of another: where to; None where there is none."""
    if not (folder / METRICS).exists():
        return None
    number = 1
    while (folder / EARLIER / str(number)).exists():
        number += 1
    place = folder / EARLIER / str(number)
    place.mkdir(parents=True)
    for name in (VIDEO, *PICTURES, TABLE, METRICS):
        if (folder / name).exists():
            (folder / name).replace(place / name)
    return place


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
    looks at in the episodes, or where there are none in held-out demonstrations; looks_held_out:
    in these, beside episodes; both [height, width, 3] uint8. aspects: of quality, [height, width,
    3] uint8, where they were asked for. video: makes the recordings' mp4, where it is made
    elsewhere than in `save`.
    """

    metrics: dict[str, Any]
    episodes: list[EpisodeResult]
    recordings: list[Recording] = field(default_factory=list)
    picture: np.ndarray | None = None
    looks: np.ndarray | None = None
    looks_held_out: np.ndarray | None = None
    aspects: np.ndarray | None = None
    fps: float = 10.0
    video: Callable[[], bytes] | None = None

    def save(self, folder: Path | str) -> list[Path]:
        """Write metrics.json, and episodes.csv, episodes.mp4, chunks.png, looks.png,
        looks_held_out.png, aspects.png where there are any: their paths.

        Each file appears whole or not at all. An evaluation that lies there is moved, see
        `set_aside`. Raises ConfigError where a dataset does, and where nothing can be written.
        """
        folder = Path(folder)
        check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        set_aside(folder)
        written = [folder / METRICS]
        with atomic_write(written[0]) as unfinished:
            unfinished.write_text(json.dumps(self.metrics, indent=2, allow_nan=False) + "\n")
        if self.episodes:
            written.append(folder / TABLE)
            with atomic_write(written[-1]) as unfinished:
                unfinished.write_text(_table(self.episodes))
        if self.recordings:
            written.append(folder / VIDEO)
            if self.video is None:
                write_video(written[-1], video_grid(self.recordings), self.fps)
            else:
                with atomic_write(written[-1]) as unfinished:
                    unfinished.write_bytes(self.video())
        pictures = (self.picture, self.looks, self.looks_held_out, self.aspects)
        for name, picture in zip(PICTURES, pictures, strict=True):
            if picture is not None:
                written.append(folder / name)
                write_png(written[-1], picture)
        return written


def _table(episodes: Sequence[EpisodeResult]) -> str:
    """CSV, a line an episode: `per_episode` with a column for each number, `successes.NAME` for
    each further definition; empty where an episode has none."""
    rows = []
    for episode in episodes:
        row = episode.to_dict()
        others = row.pop("successes", {})
        rows.append({**row, **{f"successes.{name}": each for name, each in others.items()}})
    text, columns = StringIO(), dict.fromkeys(name for row in rows for name in row)
    table = csv.DictWriter(text, list(columns), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()
