"""What batches are drawn from: the windows of one dataset, or of several in a mixture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from dipole.data.loading.features import Features
    from dipole.data.loading.statistics import Statistics
    from dipole.data.loading.targets import Target
    from dipole.data.loading.window_spec import WindowSpec
    from dipole.data.loading.windows import Windows

Batch = dict[str, Any]


class WindowFrames(NamedTuple):
    """Frame numbers of B windows.

    observed: int64 [B, To]; acted: int64 [B, H]; is_pad: bool [B, H], which actions are padding.
    last: int64 [B], the last frame of each window's episode.
    """

    observed: np.ndarray
    acted: np.ndarray
    is_pad: np.ndarray
    last: np.ndarray

    def of(self, name: str) -> np.ndarray:
        """Those of a feature: the H frames of "action", the To observed ones of all others."""
        return self.acted if name == "action" else self.observed


@dataclass(frozen=True)
class PartRows:
    """The rows of a batch that one part fills.

    part: Its number.
    rows: Of the batch, int64 [n], n above 0.
    indices: The part's own windows that come there, int64 [n].
    """

    part: int
    rows: np.ndarray
    indices: np.ndarray


class WindowSource(Protocol):
    """`len(source)` windows, numbered from 0; made by `Windows` and `Mixture`.

    features: What a batch holds, in the policy's terms.
    spec: Which steps a window has.
    parts: The datasets whose windows it shows, one after the other in its numbering. Their readers
        give frames as batches hold them, so that these can be kept in memory.
    weights: Share of each part in the batches; None: every window is as likely as another.
    targets: What an objective predicts of the observed frames; mostly nothing.
    """

    @property
    def features(self) -> "Features": ...
    @property
    def spec(self) -> "WindowSpec": ...
    @property
    def parts(self) -> "Sequence[Windows]": ...
    @property
    def weights(self) -> Sequence[float] | None: ...
    @property
    def targets(self) -> "Mapping[str, Target]": ...

    def __len__(self) -> int: ...

    def gather(self, indices: np.ndarray) -> Batch:
        """The windows with these numbers, int [B], as arrays.

        {"observation": {name: [B, To, *shape]}, "action": [B, H, A], "action_is_pad": [B, H]},
        float32, images uint8, masks bool. Of a mixture whose parts lack something also
        "observation_is_missing": {name: [B]} and "action_is_missing": [B, A].

        With targets also "target": {name: [B, To, *shape]}, "target_is_pad": {name: [B, To]} of
        those that lie ahead, true past an episode's end, and "target_is_missing": {name: [B]}.
        """
        ...

    def prefetch(self, indices: np.ndarray) -> None:
        """Have the frames of the windows with these numbers, int [B], fetched in the background,
        where a dataset lies in object storage."""
        ...

    def by_part(self, indices: np.ndarray) -> list[PartRows]:
        """Which part fills which rows of a batch of these windows."""
        ...

    def masks(self, parts: np.ndarray) -> Batch:
        """What rows of these parts lack, int [B]: the "..._is_missing" of `gather`, or none."""
        ...

    def statistics(self) -> "dict[str, Statistics]":
        """Of each feature but images, for the policy's normalisers."""
        ...

    def target_statistics(self) -> "dict[str, Statistics]":
        """Of each target."""
        ...

    def require_windows(self) -> None:
        """Raise DataError where there is nothing to train on."""
        ...
