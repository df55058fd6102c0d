"""Camera frames that are stored as video, one file an episode, decoded when they are asked for."""

from collections import OrderedDict

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.lazy_array import LazyArray
from dipole.data.store.video import VideoError, VideoReader, video_error
from dipole.data.store.zarr.tree import Tree

OPEN_VIDEOS = 16  # that stay open: opening one costs as much as decoding a frame


class VideoArray(LazyArray):
    """Frames uint8 [frames, height, width, 3] in the files videos/<key>/<episode>.mp4.

    ends: of the episodes, exclusive; first_frames: which frame of its file is an episode's first.
    """

    def __init__(
        self,
        files: Tree,
        key: str,
        picture: tuple[int, ...],
        ends: np.ndarray,
        first_frames: np.ndarray,
    ) -> None:
        self._files = files
        self._ends = ends
        self._first_frames = first_frames
        self._starts = np.concatenate([[0], ends[:-1]])
        self._open: OrderedDict[int, VideoReader] = OrderedDict()
        self.name = key
        self.shape = (int(ends[-1]), *picture)
        self.dtype = np.dtype(np.uint8)
        self.chunk_length = 1
        self.n_chunks = self.shape[0]

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.take(np.arange(start, max(start, stop)))

    def take(self, frames: np.ndarray) -> np.ndarray:
        wanted, order = self._wanted(frames)
        taken = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        numbers, first, counts = np.unique(wanted, return_index=True, return_counts=True)
        episodes = np.searchsorted(self._ends, numbers, side="right")
        for episode in np.unique(episodes).tolist():
            here = np.flatnonzero(episodes == episode)
            pictures = self._decode(episode, numbers[here])
            for at, picture in zip(here.tolist(), pictures, strict=True):
                taken[order[first[at] : first[at] + counts[at]]] = picture
        return taken.reshape(*np.shape(frames), *self.shape[1:])

    def problem(self, block: int) -> str | None:
        name = self.file(int(np.searchsorted(self._ends, block, side="right")))
        return None if self._files.size(name) is not None else f"{name} is missing"

    def verify_last_chunk(self) -> None:
        problem = self.problem(self.n_chunks - 1)
        if problem is not None:
            raise DataError(f"{self._files.path}: {problem}. Copy the dataset again")

    def file(self, episode: int) -> str:
        """The name of an episode's video within the dataset."""
        return video_file(self.name, episode)

    def first_frame(self, episode: int) -> int:
        """Which frame of its file is the episode's first."""
        return int(self._first_frames[episode])

    def _decode(self, episode: int, numbers: np.ndarray) -> list[np.ndarray]:
        """Frames of one episode, by their numbers in the dataset, increasing."""
        start, offset = int(self._starts[episode]), int(self._first_frames[episode])
        pictures: list[np.ndarray] = []
        try:
            reader = self._reader(episode)
            for picture in reader.frames((numbers - start + offset).tolist()):
                if picture.shape != self.shape[1:]:
                    raise VideoError(
                        f"its pictures are {list(picture.shape)}, {list(self.shape[1:])} expected"
                    )
                pictures.append(picture)
        except VideoError as error:
            self._forget(episode)
            bad = int(numbers[len(pictures)])
            place = (
                f"{self._files.path}: {self.name!r}, episode {episode}, frame {bad - start} "
                f"(frame {bad} of the dataset): {self.file(episode)}"
            )
            raise video_error(place, error) from error
        return pictures

    def _reader(self, episode: int) -> VideoReader:
        if episode not in self._open:
            if self._files.size(self.file(episode)) is None:
                raise VideoError("the video is missing")
            self._open[episode] = VideoReader(self._files.open(self.file(episode)))
            if len(self._open) > OPEN_VIDEOS:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(episode)
        return self._open[episode]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def _forget(self, episode: int) -> None:
        if episode in self._open:
            self._open.pop(episode).close()


def video_file(key: str, episode: int) -> str:
    """Where a dataset keeps an episode's video."""
    return f"videos/{key}/{episode:06d}.mp4"
