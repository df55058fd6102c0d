"""Windows: the training examples of a dataset, and which frames make them.

With To = 2 observations and H = 4 actions, of which Ta = 3 are executed, an episode of frames
0 1 2 3 has the windows below. `.` repeats the nearest real frame and is padding.

    start -1    . 0 1 2        observations are the first To frames of a window,
    start  0      0 1 2 3      actions all H of them; so observation To - 1 and
    start  1        1 2 3 .    action To - 1 are of the same, current frame
    start  2          2 3 . .

Starts run from -(To - 1) to L - H + Ta - 1: the first window's current frame is the episode's
first, and the last window's executed actions end with the episode. (Chi et al., 2023.)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.loading.feature_reader import FeatureReader
from dipole.data.loading.features import Features
from dipole.data.loading.statistics import Statistics, statistics
from dipole.data.loading.window_spec import WindowSpec
from dipole.data.store.store import EpisodeStore

Batch = dict[str, Any]


class Windows:
    """The windows of chosen episodes, and their frames; `len(windows)` of them.

    store: the dataset; spec: which frames; features: what to read (default: every array as it is);
    episodes: ids, in the order their windows are numbered (default: all).
    Raises DataError for features or episodes that the store does not have.
    """

    def __init__(
        self,
        store: EpisodeStore,
        spec: WindowSpec,
        features: Features | None = None,
        episodes: Sequence[int] | np.ndarray | None = None,
    ) -> None:
        self.store = store
        self.spec = spec
        self.features = Features.of(store) if features is None else features
        self.episodes = _episode_ids(store, episodes)
        self.starts = store.episode_starts[self.episodes]  # first frame of each chosen episode
        self.lengths = store.episode_ends[self.episodes] - self.starts
        self._packed_starts = _packed(self.starts, self.lengths)
        self._first_window = np.concatenate([[0], np.cumsum(spec.count(self.lengths))])
        self.readers = {
            name: FeatureReader(store, name, feature)
            for name, feature in self.features.named().items()
        }

    def __len__(self) -> int:
        return int(self._first_window[-1])

    def __getitem__(self, index: int) -> Batch:
        """One window: as `gather`, without the batch axis."""
        batch = self.gather(np.array([range(len(self))[index]]))
        observation = {name: array[0] for name, array in batch["observation"].items()}
        return {
            "observation": observation,
            "action": batch["action"][0],
            "action_is_pad": batch["action_is_pad"][0],
        }

    def frames(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Frames of the windows with these indices, int [B].

        Returns the store's frame numbers of observations int64 [B, To] and actions int64 [B, H],
        and which actions are padding, bool [B, H]. Raises IndexError for an index that no window
        has.
        """
        episode, first = self._locate(indices)
        return self._frames(self.starts, episode, first)

    def packed_frames(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `frames`, numbered as if the frames of `spans` alone lay end to end."""
        episode, first = self._locate(indices)
        return self._frames(self._packed_starts, episode, first)

    def spans(self) -> list[tuple[int, int]]:
        """The chosen episodes as [start, stop) frames of the store, in the store's order."""
        return sorted(zip(self.starts.tolist(), (self.starts + self.lengths).tolist(), strict=True))

    def gather(self, indices: np.ndarray) -> Batch:
        """The windows with these indices, int [B], read from the store.

        Returns {"observation": {name: [B, To, *shape]}, "action": [B, H, A], "action_is_pad": [B,
        H]}: float32, images uint8, the mask bool.
        """
        observed, acted, is_pad = self.frames(indices)
        observation = {
            name: self.readers[name].take(observed) for name in self.features.observation
        }
        action = self.readers["action"].take(acted)
        return {"observation": observation, "action": action, "action_is_pad": is_pad}

    def statistics(self) -> dict[str, Statistics]:
        """Of each feature but images over the chosen episodes' frames, in bounded memory.

        Keys are the observations' names and "action". Images are normalised by what sees them.
        Raises DataError for NaN and infinities.
        """
        spans = self.spans()
        numbers = {n: r for n, r in self.readers.items() if r.feature.kind != "image"}
        return {name: statistics(reader, spans) for name, reader in numbers.items()}

    def require_windows(self) -> None:
        """Raise DataError where there is not a single window to train on."""
        if len(self):
            return
        spec, longest = self.spec, int(self.lengths.max(initial=0))
        raise DataError(
            f"{self.store.path}: no windows. The longest of {len(self.episodes)} chosen episodes "
            f"has {longest} frames; n_obs_steps {spec.n_obs_steps}, horizon {spec.horizon} and "
            f"n_action_steps {spec.n_action_steps} need {spec.shortest_episode}. "
            "Record longer episodes or shorten the horizon"
        )

    def _locate(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which chosen episode each window is of, and its start in that episode, both int64 [B]."""
        indices = np.asarray(indices, np.int64)
        if indices.ndim != 1:
            raise IndexError(f"window indices of shape {indices.shape}: one axis is needed")
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"window {indices.min()} or {indices.max()} of {len(self)}")
        episode = np.searchsorted(self._first_window, indices, side="right") - 1
        return episode, indices - self._first_window[episode] - (self.spec.n_obs_steps - 1)

    def _frames(
        self, starts: np.ndarray, episode: np.ndarray, first: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        offsets = first[:, None] + np.arange(self.spec.horizon)  # [B, H], within the episode
        last = self.lengths[episode][:, None] - 1
        is_pad = (offsets < 0) | (offsets > last)
        frames = starts[episode][:, None] + np.clip(offsets, 0, last)
        return frames[:, : self.spec.n_obs_steps], frames, is_pad


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
