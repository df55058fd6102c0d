"""Camera frames that are stored as video, one file an episode, decoded when they are asked for."""

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.lazy_array import LazyArray
from dipole.data.store.video.clip import VideoError, video_error
from dipole.data.store.video.container import open_container
from dipole.data.store.video.decoder import (
    DecoderPool,
    IndexedVideo,
    PacketDecoder,
    decoder_parameters,
)
from dipole.data.store.video.frame_index import read_index
from dipole.data.store.zarr.tree import FileRange, Tree

INDEX_BYTES = 32 * 2**20  # of indices kept, of 1.3 million frames: making one opens the file
PREFETCHED_BYTES = 64 * 2**20  # of a file that is fetched whole; of longer ones what is asked for


class VideoArray(LazyArray):
    """Frames uint8 [frames, height, width, 3] in the files videos/<key>/<episode>.mp4.

    ends: Of the episodes, exclusive.
    first_frames: Which frame of its file is an episode's first.

    In memory: INDEX_BYTES of indices, and up to MAX_DECODERS decoders with the frames that they
    refer to; no decoded frames are kept, which windows in random order would rarely find again.
    """

    def __init__(
        self,
        files: Tree,
        key: str,
        frame_shape: tuple[int, ...],
        ends: np.ndarray,
        first_frames: np.ndarray,
    ) -> None:
        self._files = files
        self._ends = ends
        self._first_frames = first_frames
        self._starts = np.concatenate([[0], ends[:-1]])
        self._videos: OrderedDict[int, IndexedVideo] = OrderedDict()
        self._index_bytes = 0
        self._decoders = DecoderPool()
        self.name = key
        self.shape = (int(ends[-1]), *frame_shape)
        self.dtype = np.dtype(np.uint8)
        self.chunk_length = 1
        self.n_chunks = self.shape[0]

    @property
    def file_length(self) -> int:
        return max(self.shape[0] // len(self._ends), 1)

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

    def prefetch(self, frames: np.ndarray) -> None:
        if not self._files.remote or not len(frames):
            return
        episodes = np.unique(np.searchsorted(self._ends, np.unique(frames), side="right"))
        names = [self.file(episode) for episode in episodes.tolist()]
        sizes = [self._files.size(name) or 0 for name in names]
        self._files.prefetch(
            FileRange(name, 0, size)
            for name, size in zip(names, sizes, strict=True)
            if size <= PREFETCHED_BYTES
        )

    def chunk_error(self, block: int) -> str | None:
        name = self.file(int(np.searchsorted(self._ends, block, side="right")))
        return None if self._files.size(name) is not None else f"{name} is missing"

    def verify_last_chunk(self) -> None:
        problem = self.chunk_error(self.n_chunks - 1)
        if problem is not None:
            raise DataError(f"{self._files.path}: {problem}. Copy the dataset again")

    def file(self, episode: int) -> str:
        """The name of an episode's video within the dataset."""
        return video_file(self.name, episode)

    def first_frame(self, episode: int) -> int:
        """Which frame of its file is the episode's first."""
        return int(self._first_frames[episode])

    def _decode(self, episode: int, numbers: np.ndarray) -> Iterator[np.ndarray]:
        """Frames of one episode in turn, by their numbers in the dataset, increasing."""
        start, offset = int(self._starts[episode]), int(self._first_frames[episode])
        n_decoded = 0
        try:
            video = self._video(episode)
            decoder = self._decoders[video.parameters]
            for picture in decoder.frames(video, (numbers - start + offset).tolist()):
                if picture.shape != self.shape[1:]:
                    raise VideoError(
                        f"its frames are {list(picture.shape)}, {list(self.shape[1:])} expected"
                    )
                yield picture
                n_decoded += 1
        except VideoError as error:
            self._forget(episode)
            bad = int(numbers[n_decoded])
            place = (
                f"{self._files.path}: {self.name!r}, episode {episode}, frame {bad - start} "
                f"(frame {bad} of the dataset): {self.file(episode)}"
            )
            raise video_error(place, error) from error

    def _video(self, episode: int) -> IndexedVideo:
        """An episode's video, for which there is a decoder."""
        video = self._videos.get(episode)
        if video is None or video.parameters not in self._decoders:
            self._forget(episode)
            video = self._open(episode)
            self._videos[episode] = video
            self._index_bytes += video.index.nbytes
            while self._index_bytes > INDEX_BYTES and len(self._videos) > 1:
                self._forget(next(iter(self._videos)))
        self._videos.move_to_end(episode)
        return video

    def _open(self, episode: int) -> IndexedVideo:
        """Read an episode's index; its container becomes a decoder where none serves it yet."""
        name = self.file(episode)
        if self._files.size(name) is None:
            raise VideoError("the video is missing")
        file = self._files.open(name)
        container = None
        keep = False
        try:
            container, header = open_container(file)
            if header is None:
                raise VideoError("not an mp4")
            index = read_index(container, header.reordered)
            parameters = decoder_parameters(container)
            if parameters not in self._decoders:
                self._decoders.add(parameters, PacketDecoder(container, file))
                keep = True
        finally:
            if not keep:
                if container is not None:
                    container.close()
                file.close()
        files = self._files
        return IndexedVideo(index, parameters, lambda at, size: files.read(name, at, size))

    def close(self) -> None:
        self._decoders.close()
        self._videos.clear()
        self._index_bytes = 0

    def _forget(self, episode: int) -> None:
        video = self._videos.pop(episode, None)
        if video is not None:
            self._index_bytes -= video.index.nbytes


def video_file(key: str, episode: int) -> str:
    """Where a dataset keeps an episode's video."""
    return f"videos/{key}/{episode:06d}.mp4"
