"""Actions of windows out of chunks that are stored at their frames: what a teacher would do there.

    frame           0    1    2    3         To = 2 observations, H = 4 actions
    action          a0   a1   a2   a3        what was done
    teacher_chunk   c0   c1   -    c3        [H', A] each, from its frame's own time on; - has none

    current 0       a0   c0[0]  c0[1]  c0[2]      the first a0 repeats it, and is padding
    current 1       a0   c1[0]  c1[1]  c1[2]
    current 3       a2   c3[0]  c3[1]  c3[2]      past the episode's end, and no padding

The current frames are those that have a chunk, to the last of an episode. Actions before the
current one, which no policy executes, are those that were done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.loading.feature_reader import FeatureReader
from dipole.data.loading.features import Feature
from dipole.data.loading.frame_selection import select_frames
from dipole.data.loading.window_source import WindowFrames
from dipole.data.loading.window_spec import WindowSpec
from dipole.data.store.labels import valid_key
from dipole.data.store.store import EpisodeStore

if TYPE_CHECKING:
    from dipole.data.loading.represented.represented_windows import FrameReader


class ChunkReader(FeatureReader):
    """Reads the stored chunks of an action: [n, A] at each frame, as the network sees them.

    steps: Which actions of a stored chunk, int64 [n].
    Raises DataError where the store has no such chunks, or shorter ones.
    """

    def __init__(self, store: EpisodeStore, feature: Feature, steps: np.ndarray) -> None:
        self._steps = steps
        super().__init__(store, "action", feature)
        self.shape = (len(steps), *feature.shape)

    def _select(self, frames: np.ndarray) -> np.ndarray:
        return select_frames(self.feature, frames[:, self._steps])

    def _check(self, store: EpisodeStore) -> None:
        stored, feature = store[self.key].shape[1:], self.feature
        if len(stored) != 2:
            raise DataError(
                f"{self.where}: chunks, [H, A] at each frame, are needed, and array {self.key!r} "
                f"has frames of shape {list(stored)}: `dipole record teacher=RUN` and `dipole data "
                "relabel` write them; leave chunks out of the feature for single actions"
            )
        columns = feature.columns or range(stored[1])
        if max(columns) >= stored[1] or (len(columns),) != feature.stored_shape:
            raise DataError(
                f"{self.where}: actions of shape {list(feature.stored_shape)} expected, but array "
                f"{self.key!r} has chunks of shape {list(stored)}. Mend the shape, or the columns"
            )
        needed = int(self._steps[-1]) + 1
        if needed > stored[0]:
            raise DataError(
                f"{self.where}: the chunks in {self.key!r} have {stored[0]} actions, and a window "
                f"needs {needed} from its current frame on: shorten the horizon by "
                f"{needed - stored[0]}, or take a teacher with a longer one"
            )


@dataclass(frozen=True)
class ChunkActions:
    """What was done up to a window's current frame, and the chunk that is stored there.

    done: Of frames, [..., A]. chunks: Of frames, [..., n, A].
    """

    done: "FrameReader"
    chunks: "FrameReader"

    @classmethod
    def of(
        cls, store: EpisodeStore, feature: Feature, done: FeatureReader, offsets: np.ndarray
    ) -> "ChunkActions":
        """offsets: `WindowSpec.offsets`, in frames, at which stored chunks go on too."""
        return cls(done, ChunkReader(store, feature, offsets[offsets >= 0]))

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame's chunk as it is read."""
        return getattr(self.chunks, "frame_bytes", 0)

    def take(self, frames: WindowFrames) -> np.ndarray:
        """The actions of these windows, [B, H, A]."""
        before = frames.observed.shape[1] - 1
        chunk = self.chunks.take(frames.observed[:, -1])
        if not before:
            return chunk
        return np.concatenate([self.done.take(frames.acted[:, :before]), chunk], 1)

    def in_memory(self, ranges: Sequence[tuple[int, int]]) -> "ChunkActions":
        """The same of frames in memory."""
        from dipole.data.loading.represented.represented_windows import FramesInMemory

        return ChunkActions(
            FramesInMemory.of(self.done, ranges), FramesInMemory.of(self.chunks, ranges)
        )


def labelled_frames(store: EpisodeStore, action: Feature | None) -> np.ndarray | None:
    """The frames that have a chunk, int64, rising; None where actions are no chunks."""
    if action is None or not action.chunks:
        return None
    key = valid_key(action.source)
    if key not in store:
        return np.arange(store.n_frames)
    frames: np.ndarray = np.flatnonzero(store[key][:].reshape(store.n_frames, -1).any(1))
    return frames


def window_counts(
    store: EpisodeStore, spec: WindowSpec, action: Feature | None, step: Fraction = Fraction(1)
) -> np.ndarray:
    """Windows of each of a store's episodes, int64: where actions are chunks, one for each."""
    frames = labelled_frames(store, action)
    if frames is None:
        return spec.count(store.episode_ends - store.episode_starts, step)
    counts: np.ndarray = np.searchsorted(frames, store.episode_ends)
    return counts - np.searchsorted(frames, store.episode_starts)
