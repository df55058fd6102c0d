"""Statistics of frames as LeRobot writes them: of each episode, and of all episodes.

Computed in one pass over an episode's frames, in the order in which they come.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

STATISTICS = ("min", "max", "mean", "std", "count")


class FrameStatistics:
    """min, max, mean, std (of the population) and count of numbers, as LeRobot has them."""

    def __init__(self) -> None:
        self._parts: list[dict[str, Any]] = []

    def add(self, frames: np.ndarray) -> None:
        """frames: [N, *shape], N above 0."""
        values = frames.reshape(len(frames), -1) if frames.ndim < 2 else frames
        values = values.astype(np.float64)
        part = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0)}
        self._parts.append({**part, "std": values.std(0), "count": [len(frames)]})

    def result(self) -> dict[str, Any]:
        """Plain lists, as they go into files."""
        return together(self._parts)


class ImageStatistics:
    """The same of pictures: per channel, over [0, 1], [channels, 1, 1]; exact, by counting."""

    def __init__(self) -> None:
        self._frames = 0
        self._counts: np.ndarray = np.zeros((0, 256))

    def add(self, frames: np.ndarray) -> None:
        """frames: uint8 [N, height, width, channels], N above 0."""
        self._frames += len(frames)
        channels = np.moveaxis(frames, -1, 0)
        counts = [np.bincount(channel.ravel(), minlength=256) for channel in channels]
        self._counts = np.stack(counts) + (self._counts if len(self._counts) else 0)

    def result(self) -> dict[str, Any]:
        """Plain lists, as they go into files."""
        share = self._counts / self._counts.sum(1, keepdims=True)
        level = np.arange(256) / 255
        mean = share @ level
        seen = [np.flatnonzero(counts) for counts in self._counts]
        made = {
            "min": level[[values[0] for values in seen]],
            "max": level[[values[-1] for values in seen]],
            "mean": mean,
            "std": np.sqrt((share * (level - mean[:, None]) ** 2).sum(1)),
        }
        lists = {name: value[:, None, None].tolist() for name, value in made.items()}
        return {**lists, "count": [self._frames]}


class DepthStatistics:
    """The same of depth: of all pixels, in the units that are stored, [1, 1, 1]."""

    def __init__(self) -> None:
        self._pixels = FrameStatistics()
        self._frames = 0

    def add(self, frames: np.ndarray) -> None:
        """frames: [N, height, width(, 1)], N above 0."""
        self._frames += len(frames)
        self._pixels.add(frames.reshape(-1, 1))

    def result(self) -> dict[str, Any]:
        """Plain lists, as they go into files."""
        made = self._pixels.result()
        lists = {name: [[[made[name][0]]]] for name in STATISTICS if name != "count"}
        return {**lists, "count": [self._frames]}


def together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Statistics of all frames from those of their episodes."""
    count = np.array([part["count"][0] for part in parts], np.float64)
    low, high, mean, std = (
        np.array([part[name] for part in parts]) for name in ("min", "max", "mean", "std")
    )
    weight = (count / count.sum()).reshape(-1, *[1] * (mean.ndim - 1))
    overall = (weight * mean).sum(0)
    variance = (weight * (std**2 + (mean - overall) ** 2)).sum(0)
    return {
        "min": low.min(0).tolist(),
        "max": high.max(0).tolist(),
        "mean": overall.tolist(),
        "std": np.sqrt(variance).tolist(),
        "count": [int(count.sum())],
    }
