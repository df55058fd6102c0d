"""One feature of some windows whose numbers are the window's own.

Frames are kept as they are recorded, for each window sees them relative to another pose: actions
[H, A] of window 1 and of window 2 share frames and not numbers. Where actions are stored as chunks,
windows share not even the frames.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.loading.chunk_actions import ChunkActions
from dipole.data.loading.feature_reader import FeatureReader, FrameMap
from dipole.data.loading.features import Feature
from dipole.data.loading.statistics import (
    FrameSample,
    RunningStatistics,
    Statistics,
    read_plan,
)
from dipole.data.loading.window_source import WindowFrames

BLOCK = 4096  # windows of which statistics are taken at once


class FrameReader(Protocol):
    """Gives frames by their numbers: int [...] -> [..., *shape]."""

    def take(self, frames: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class FramesInMemory:
    """frames: [N, *shape]."""

    frames: np.ndarray

    @classmethod
    def of(cls, reader: FrameReader, ranges: Sequence[tuple[int, int]]) -> "FramesInMemory":
        """The frames of these ranges, numbered as if they alone lay end to end."""
        assert isinstance(reader, FeatureReader)
        parts = [reader.read(start, stop) for start, stop in read_plan(reader, ranges)]
        return cls(np.concatenate(parts) if parts else np.zeros((0, *reader.shape), np.float32))

    def take(self, frames: np.ndarray) -> np.ndarray:
        taken: np.ndarray = self.frames[frames]
        return taken


class WindowReader(Protocol):
    """Gives the absolute frames of windows."""

    def take(self, frames: WindowFrames) -> np.ndarray:
        """[B, N, A], float32."""
        ...

    def in_memory(self, ranges: Sequence[tuple[int, int]]) -> "WindowReader": ...


@dataclass(frozen=True)
class OfFrames:
    """Each step of a window shows its own frame. name: Of the feature."""

    name: str
    reader: FrameReader

    def take(self, frames: WindowFrames) -> np.ndarray:
        return self.reader.take(frames.of(self.name))

    def in_memory(self, ranges: Sequence[tuple[int, int]]) -> "OfFrames":
        return OfFrames(self.name, FramesInMemory.of(self.reader, ranges))


@dataclass(frozen=True)
class RepresentedWindows:
    """A feature of one dataset that is relative to poses, or out of chunks, or both.

    reader: Of its own, absolute frames.
    references: {observation: reader of its absolute frames} of what it is relative to.
    map: What a mixture does to its represented numbers, [N, A] -> [N, another A].
    where: Names it in messages.
    """

    name: str
    feature: Feature
    reader: WindowReader
    references: Mapping[str, FrameReader]
    where: str
    frame_bytes: int
    map: FrameMap | None = None

    @classmethod
    def of(
        cls,
        name: str,
        feature: Feature,
        readers: Mapping[str, FeatureReader],
        chunks: ChunkActions | None = None,
    ) -> "RepresentedWindows":
        """readers: Of all features of the dataset, by name; none is mapped yet. chunks: Of an
        action that is stored as chunks."""
        own = readers[name]
        others = () if feature.represent is None else feature.represent.references
        references = {other: readers[other] for other in others}
        n_bytes = own.frame_bytes + sum(each.frame_bytes for each in references.values())
        n_bytes += 0 if chunks is None else chunks.frame_bytes
        return cls(name, feature, chunks or OfFrames(name, own), references, own.where, n_bytes)

    def mapped(self, map: FrameMap | None) -> "RepresentedWindows":
        """The same, with what a mixture does to its numbers after all else."""
        return replace(self, map=map)

    def in_memory(self, ranges: Sequence[tuple[int, int]]) -> "RepresentedWindows":
        """The same of frames in memory, see `FramesInMemory`."""
        own = self.reader.in_memory(ranges)
        references = {k: FramesInMemory.of(each, ranges) for k, each in self.references.items()}
        return replace(self, reader=own, references=references)

    def take(self, frames: WindowFrames) -> np.ndarray:
        """What batches hold of these windows: [B, N, A], float32.

        Raises DataError where a pose or an action holds no rotation.
        """
        representation = self.feature.represent
        found = absolute = self.reader.take(frames)
        if representation is not None:
            observed = {k: each.take(frames.observed) for k, each in self.references.items()}
            base = representation.base(absolute.shape[-1], observed)
            found = representation.encode(absolute, base).astype(np.float32)
        self._require_finite(found, absolute, frames)
        return found if self.map is None else self._mapped(self.map, found)

    def statistics(
        self, frames_of: Callable[[np.ndarray], WindowFrames], n_windows: int
    ) -> Statistics:
        """Over every number of all windows, those that pad an episode included.

        frames_of: The frames of windows with these numbers, in the readers' numbering.
        """
        running, sample = RunningStatistics(), FrameSample()
        for start in range(0, n_windows, BLOCK):
            frames = frames_of(np.arange(start, min(start + BLOCK, n_windows)))
            found = replace(self, map=None).take(frames)
            vectors = found.reshape(-1, found.shape[-1])
            running.add(vectors)
            sample.add(vectors)
        if not running.count:
            raise DataError(f"{self.where}: there are no windows, so nothing to normalise by")
        return sample.with_quantiles(running.result())

    @staticmethod
    def _mapped(map: FrameMap, found: np.ndarray) -> np.ndarray:
        vectors = map(found.reshape(-1, found.shape[-1]))
        return vectors.reshape(*found.shape[:-1], -1)

    def _require_finite(
        self, found: np.ndarray, absolute: np.ndarray, frames: WindowFrames
    ) -> None:
        if np.isfinite(found).all():
            return
        row, step, column = (int(axis[0]) for axis in np.nonzero(~np.isfinite(found)))
        frame = int(frames.of(self.name)[row, step])
        if not np.isfinite(absolute[row, step]).all():
            why = "is NaN or infinite; `dipole data validate` lists all such frames"
        else:
            why = (
                f"has no column {column} relative to the pose in frame "
                f"{int(frames.observed[row, -1])}: in one of the two are no rotation's 6 numbers"
            )
        raise DataError(f"{self.where}: frame {frame} {why}")
