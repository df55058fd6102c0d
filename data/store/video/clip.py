"""An episode's frames inside a video file, and the errors of reading them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError


class VideoError(ValueError):
    """A video that cannot be read; the message is to stand after the place."""


def video_error(place: str, error: VideoError) -> DataError:
    """The error for a person: where, what, and what to do."""
    return DataError(f"{place}, {error}. Copy the video again, or leave the episode out")


@dataclass(frozen=True)
class Clip:
    """An episode's frames in a video file.

    path: The file.
    start_frame: Number in the file of the episode's first frame.
    n_frames: Frames of the episode.
    frame_shape: [height, width, channels] of one frame.
    by_number: The frames belong to the rows one after another, whatever times the video gives them.
        `EpisodeWriter` refuses other videos whose times are not those of its rows.
    """

    path: Path
    start_frame: int
    n_frames: int
    frame_shape: tuple[int, ...]
    by_number: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.n_frames, *self.frame_shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return self.n_frames
