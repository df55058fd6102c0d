"""Windows: the training examples of a dataset, and which frames make them.

With To = 2 observations and H = 4 actions, of which Ta = 3 are executed, an episode of frames
0 1 2 3 has the windows below. `.` repeats the nearest real frame and is padding.

    start -1    . 0 1 2        observations are the first To frames of a window,
    start  0      0 1 2 3      actions all H of them; so observation To - 1 and
    start  1        1 2 3 .    action To - 1 are of the same, current frame
    start  2          2 3 . .

Starts run from -(To - 1) to L - H + Ta - 1: the first window's current frame is the episode's
first, and the last window's executed actions end with the episode. (Chi et al., 2023.)

Where the data has more frames than the policy has steps, a step is `step` frames: each frame of the
episode is a current frame as before, and the steps around it are `WindowSpec.offsets` away.
"""

import copy
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.loading.block_order import block_ends
from dipole.data.loading.chunk_actions import ChunkActions, labelled_frames, window_counts
from dipole.data.loading.feature_reader import FrameMap
from dipole.data.loading.features import Feature, Features
from dipole.data.loading.represented.reference import check_references
from dipole.data.loading.represented.represented_windows import RepresentedWindows
from dipole.data.loading.statistics import Statistics, statistics
from dipole.data.loading.statistics_cache import StatisticsCache
from dipole.data.loading.targets import Target
from dipole.data.loading.text import make_reader
from dipole.data.loading.window_source import Batch, PartRows, WindowFrames
from dipole.data.loading.window_spec import WindowSpec, nearest_frame
from dipole.data.store.store import EpisodeStore


class Windows:
    """The windows of chosen episodes, and their frames; `len(windows)` of them.

    store: The dataset.
    spec: Which frames.
    features: What to read; default: every array as it is.
    episodes: Ids, in the order their windows are numbered; default: all.
    step: Frames from one step of a window to the next, at least 1; see `frames_per_step`.
    targets: What is read beside the features, of the observed frames.
    Raises DataError for features or episodes that the store does not have.
    """

    def __init__(
        self,
        store: EpisodeStore,
        spec: WindowSpec,
        features: Features | None = None,
        episodes: Sequence[int] | np.ndarray | None = None,
        step: Fraction | int = 1,
        targets: Mapping[str, Target] | None = None,
    ) -> None:
        self.store = store
        self.spec = spec
        self.step = Fraction(step)
        self.features = Features.of(store) if features is None else features
        self.episodes = _episode_ids(store, episodes)
        self.starts = store.episode_starts[self.episodes]  # first frame of each chosen episode
        self.lengths = store.episode_ends[self.episodes] - self.starts
        action = self.features.named().get("action")
        counts = window_counts(store, spec, action, self.step)[self.episodes]
        self._labelled = labelled_frames(store, action)  # where actions are chunks
        self.used = counts > 0  # the episodes that have windows
        self._offsets = spec.offsets(self.step)
        self._packed_starts = _packed(self.starts, np.where(self.used, self.lengths, 0))
        self._first_window = np.concatenate([[0], np.cumsum(counts)])
        self.readers = {
            name: make_reader(store, name, feature)
            for name, feature in self.features.named().items()
        }
        self.targets = dict(targets or {})
        self.target_readers = {
            name: make_reader(store, name, target.feature) for name, target in self.targets.items()
        }
        check_references(self.features)
        self.represented = {
            name: RepresentedWindows.of(name, feature, self.readers, self._chunks(feature))
            for name, feature in self.features.named().items()
            if feature.represent is not None or feature.chunks
        }

    def _chunks(self, feature: Feature) -> ChunkActions | None:
        if not feature.chunks:
            return None
        return ChunkActions.of(self.store, feature, self.readers["action"], self._offsets)

    @property
    def parts(self) -> "tuple[Windows]":
        """Itself: a single dataset is a mixture of one part."""
        return (self,)

    @property
    def weights(self) -> None:
        """Of parts; every window is as likely as another."""
        return None

    def __len__(self) -> int:
        return int(self._first_window[-1])

    def __getitem__(self, index: int) -> Batch:
        """One window: as `gather`, without the batch axis."""
        batch = self.gather(np.array([range(len(self))[index]]))
        return {
            name: {each: array[0] for each, array in value.items()}
            if isinstance(value, Mapping)
            else value[0]
            for name, value in batch.items()
        }

    def frames(self, indices: np.ndarray) -> WindowFrames:
        """The store's frames of the windows with these indices, int [B].

        Raises IndexError for an index that no window has.
        """
        return self._frames(self.starts, indices)

    def packed_frames(self, indices: np.ndarray) -> WindowFrames:
        """As `frames`, numbered as if the frames of `frame_ranges` alone lay end to end."""
        return self._frames(self._packed_starts, indices)

    def frame_ranges(self) -> list[tuple[int, int]]:
        """The chosen episodes that have windows, as [start, stop) frames of the store, in order."""
        starts = self.starts[self.used]
        stops = starts + self.lengths[self.used]
        return sorted(zip(starts.tolist(), stops.tolist(), strict=True))

    def block_ends(self) -> np.ndarray:
        """Where blocks of windows end whose largest frames lie in one shard; see `BlockOrder`."""
        largest = max(self.readers.values(), key=lambda reader: reader.source_bytes)
        counts = np.diff(self._first_window)
        return block_ends(self.starts, counts, largest.file_length, self._labelled is None)

    @property
    def n_frames(self) -> int:
        """Frames of `frame_ranges`."""
        return int(self.lengths[self.used].sum())

    def gather(self, indices: np.ndarray) -> Batch:
        """The windows with these indices, int [B], read from the store.

        Returns {"observation": {name: [B, To, *shape]}, "action": [B, H, A], "action_is_pad": [B,
        H]}: float32, images uint8, the mask bool; with targets also theirs, see
        `WindowSource.gather`.
        """
        frames = self.frames(indices)
        observation = {name: self._take(name, frames) for name in self.features.observation}
        action = self._take("action", frames)
        batch = {"observation": observation, "action": action, "action_is_pad": frames.is_pad}
        return {**batch, **self._gather_targets(frames)}

    def prefetch(self, indices: np.ndarray) -> None:
        """See `WindowSource.prefetch`."""
        if not self.store.files.remote:
            return
        frames = self.frames(indices)
        for name, reader in self.readers.items():
            reader.prefetch(frames.of(name).ravel())
        for name, reader in self.target_readers.items():
            reader.prefetch(self.target_frames(name, frames)[0].ravel())

    def _gather_targets(self, frames: WindowFrames) -> Batch:
        if not self.targets:
            return {}
        found = {name: self.target_frames(name, frames) for name in self.targets}
        values = {name: self.target_readers[name].take(at) for name, (at, _) in found.items()}
        pads = {name: is_pad for name, (_, is_pad) in found.items() if self.targets[name].ahead}
        return {"target": values, **({"target_is_pad": pads} if pads else {})}

    def target_frames(self, name: str, frames: WindowFrames) -> tuple[np.ndarray, np.ndarray]:
        """The frames that a target is of in these windows, int64 [B, To], and which of them would
        lie past their episode's end, bool [B, To]."""
        wanted = frames.observed + nearest_frame(self.targets[name].ahead, self.step)
        last = frames.last[:, None]
        return np.minimum(wanted, last), wanted > last

    def _take(self, name: str, frames: WindowFrames) -> np.ndarray:
        if name in self.represented:
            return self.represented[name].take(frames)
        return self.readers[name].take(frames.of(name))

    def by_part(self, indices: np.ndarray) -> list[PartRows]:
        """All rows are this dataset's."""
        return [PartRows(0, np.arange(len(indices)), indices)]

    def masks(self, parts: np.ndarray) -> Batch:
        """A dataset lacks nothing of its own features."""
        return {}

    def mapped(
        self, maps: Mapping[str, FrameMap], target_maps: Mapping[str, FrameMap] | None = None
    ) -> "Windows":
        """The same windows, with numbers that readers map to those of a mixture."""
        other = copy.copy(self)
        other.readers = {
            name: reader.mapped(maps.get(name)) for name, reader in self.readers.items()
        }
        other.target_readers = {
            name: reader.mapped((target_maps or {}).get(name))
            for name, reader in self.target_readers.items()
        }
        other.represented = {
            name: represented.mapped(maps.get(name))
            for name, represented in self.represented.items()
        }
        return other

    def statistics(self) -> dict[str, Statistics]:
        """Of each feature but images over the frames of `frame_ranges`, in bounded memory; of those
        that are relative to a pose over all windows, as batches hold them.

        Keys are the observations' names and "action". Images are normalised by what sees them.
        Raises DataError for NaN and infinities.
        """
        numbers = [name for name, one in self.readers.items() if one.feature.is_numeric]
        cached = StatisticsCache.of(self)
        return {name: self._statistics(name, cached) for name in numbers}

    def target_statistics(self) -> dict[str, Statistics]:
        """Of each target over the frames of `frame_ranges`; see `statistics`."""
        cached, ranges = StatisticsCache.of(self), self.frame_ranges()
        return {
            name: cached.get(reader, partial(statistics, reader, ranges))
            for name, reader in self.target_readers.items()
        }

    def _statistics(self, name: str, cached: StatisticsCache) -> Statistics:
        if name in self.represented:
            return self.represented[name].statistics(self.frames, len(self))
        reader = self.readers[name]
        depth = reader.feature.depth_range
        if depth is not None:
            reader.require_depth_in_range(self.frame_ranges())
            return Statistics.within(*depth.limits, reader.shape, self.n_frames)
        return cached.get(reader, partial(statistics, reader, self.frame_ranges()))

    def require_windows(self) -> None:
        """Raise DataError where there is not a single window to train on."""
        if len(self):
            return
        if self._labelled is not None:
            raise DataError(
                f"{self.store.path}: no windows. None of the {len(self.episodes)} chosen episodes "
                f"has a frame with a chunk in {self.features.action.source!r}"
            )
        spec, longest = self.spec, int(self.lengths.max(initial=0))
        raise DataError(
            f"{self.store.path}: no windows. The longest of {len(self.episodes)} chosen episodes "
            f"has {longest} frames; n_obs_steps {spec.n_obs_steps}, horizon {spec.horizon} and "
            f"n_action_steps {spec.n_action_steps} need {spec.shortest_episode(self.step)}. "
            "Record longer episodes or shorten the horizon"
        )

    def _locate(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which chosen episode each window is of, and its current frame there, both int64 [B]."""
        indices = np.asarray(indices, np.int64)
        if indices.ndim != 1:
            raise IndexError(f"window indices of shape {indices.shape}: one axis is needed")
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"window {indices.min()} or {indices.max()} of {len(self)}")
        episode = np.searchsorted(self._first_window, indices, side="right") - 1
        current = indices - self._first_window[episode]
        if self._labelled is not None:
            starts = self.starts[episode]
            current = self._labelled[np.searchsorted(self._labelled, starts) + current] - starts
        return episode, current

    def _frames(self, starts: np.ndarray, indices: np.ndarray) -> WindowFrames:
        episode, current = self._locate(indices)
        within = current[:, None] + self._offsets  # [B, H], frames of the episode
        last = self.lengths[episode][:, None] - 1
        is_pad = (within < 0) | (within > last)
        if self._labelled is not None:  # a chunk goes on where the episode does not
            is_pad[:, self.spec.n_obs_steps - 1 :] = False
        frames = starts[episode][:, None] + np.clip(within, 0, last)
        return WindowFrames(
            observed=frames[:, : self.spec.n_obs_steps],
            acted=frames,
            is_pad=is_pad,
            last=starts[episode] + last[:, 0],
        )


def _packed(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Where each episode starts if these alone lay end to end, in the store's order."""
    order = np.argsort(starts)
    packed = np.empty_like(starts)
    packed[order] = np.cumsum(lengths[order]) - lengths[order]
    return packed


def _episode_ids(store: EpisodeStore, episodes: Sequence[int] | np.ndarray | None) -> np.ndarray:
    """The chosen episodes, int64; raises DataError for one that is absent or named twice."""
    if episodes is None:
        return np.arange(store.n_episodes)
    ids = np.asarray(episodes)
    if ids.ndim != 1 or (len(ids) and ids.dtype.kind not in "iu"):
        raise DataError(f"episodes {episodes!r}: a list of whole numbers is needed")
    ids = ids.astype(np.int64)
    absent = ids[(ids < 0) | (ids >= store.n_episodes)]
    if len(absent):
        raise DataError(
            f"{store.path}: no episode {absent[0]}; there are {store.n_episodes}, counted from 0"
        )
    if len(np.unique(ids)) < len(ids):
        values, counts = np.unique(ids, return_counts=True)
        raise DataError(f"episode {values[counts > 1][0]} is chosen twice: name each once")
    return ids
