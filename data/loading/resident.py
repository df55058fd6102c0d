"""Whole datasets as tensors on the device: a batch is one gather per feature."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from dipole.data.loading.batch_plan import BatchPlan
from dipole.data.loading.feature_reader import FeatureReader
from dipole.data.loading.features import Feature
from dipole.data.loading.represented.represented_windows import FramesInMemory, RepresentedWindows
from dipole.data.loading.statistics import read_plan
from dipole.data.loading.window_source import Batch, PartRows, WindowFrames, WindowSource
from dipole.data.loading.windows import Windows


class ResidentSource:
    """Batches from memory."""

    def __init__(self, source: WindowSource, plan: BatchPlan, device: torch.device) -> None:
        self._source = source
        self._plan = plan
        self._device = device
        own = {name for part in source.parts for name in part.represented}
        self.features = {
            name: ResidentFeature(name, feature, source.parts, device)
            for name, feature in source.features.named().items()
            if name not in own
        }
        self._represented = {
            name: ResidentRepresented(name, feature, source)
            for name, feature in source.features.named().items()
            if name in own
        }

    def batches(self, start: int) -> Iterator[Batch]:
        n = start
        while True:
            yield self.batch(n)
            n += 1

    def batch(self, n: int) -> Batch:
        """Batch n, as tensors on the device."""
        chosen = self._source.by_part(self._plan.indices(n))
        parts, wanted = _wanted(self._source.parts, chosen)
        placed: dict[tuple[int, ...], torch.Tensor] = {}  # features stored alike share the numbers

        def places(feature: ResidentFeature) -> torch.Tensor:
            if feature.first not in placed:
                frames = wanted.acted if feature.name == "action" else wanted.observed
                placed[feature.first] = self._to_device(feature.places(parts, frames))
            return placed[feature.first]

        def taken(name: str) -> torch.Tensor:
            if name in self._represented:
                return self._to_device(self._represented[name].take(chosen, len(parts)))
            return self.features[name].take(places(self.features[name]))

        observation = {name: taken(name) for name in self._source.features.observation}
        placed.clear()
        action = taken("action")
        is_pad = self._to_device(wanted.is_pad)
        masks = self._masks(self._source.masks(parts))
        return {"observation": observation, "action": action, "action_is_pad": is_pad, **masks}

    def _masks(self, masks: Batch) -> Batch:
        return {
            name: self._masks(one) if isinstance(one, dict) else self._to_device(one)
            for name, one in masks.items()
        }

    def _to_device(self, array: np.ndarray) -> torch.Tensor:
        """From pinned memory a copy to a GPU is queued, instead of waited for."""
        there = torch.from_numpy(np.ascontiguousarray(array))
        if self._device.type != "cuda":
            return there.to(self._device)
        return there.pin_memory().to(self._device, non_blocking=True)


class ResidentFeature:
    """One feature's frames of all parts that have it, [frames, *shape], as their readers give them.

    feature: As batches hold it; it may be that no part has it, as of held-out episodes.
    first: Of each part, where its frames begin; -1 for parts that lack the feature, which get the
        last frame, of zeros.
    """

    def __init__(
        self, name: str, feature: Feature, parts: Sequence[Windows], device: torch.device
    ) -> None:
        self.name = name
        readers = [part.readers.get(name) for part in parts]
        having = [part for part in parts if name in part.readers]
        ends = [0, *np.cumsum([part.n_frames for part in having], dtype=np.int64).tolist()]
        starts = iter(ends)
        self.first = tuple(-1 if reader is None else next(starts) for reader in readers)
        lacking = len(having) < len(parts)
        shape = having[0].readers[name].shape if having else feature.shape
        dtype = torch.float32 if feature.is_numeric else torch.uint8
        self.frames = torch.empty((ends[-1] + lacking, *shape), dtype=dtype, device=device)
        if lacking:
            self.frames[-1] = 0
        for part, first in zip(parts, self.first, strict=True):
            if first >= 0:
                _load(part.readers[name], part, self.frames[first : first + part.n_frames])

    def places(self, parts: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Where frames of parts are, int64 [B, N]: parts, int [B]; frames, packed, int [B, N]."""
        if self.first == (0,):
            return frames
        first = np.array(self.first)[parts][:, None]
        return np.where(first < 0, len(self.frames) - 1, frames + first)

    def take(self, places: torch.Tensor) -> torch.Tensor:
        """The frames [B, N, *shape] at these places, int64 [B, N]."""
        taken = self.frames.index_select(0, places.view(-1))
        return taken.view(*places.shape, *self.frames.shape[1:])


class ResidentRepresented:
    """A feature that is relative to poses, or out of chunks: its frames and theirs, in this
    machine's memory, since every window computes its own numbers of them."""

    def __init__(self, name: str, feature: Feature, source: WindowSource) -> None:
        self._name, self._feature, self._parts = name, feature, source.parts
        length = source.spec.horizon if name == "action" else source.spec.n_obs_steps
        self._shape = (length, *feature.shape)
        self._of_part = [_in_memory(name, part) for part in source.parts]

    def take(self, chosen: Sequence[PartRows], rows: int) -> np.ndarray:
        """Of the chosen windows, [B, N, *shape]; 0 for parts that lack the feature."""
        taken = np.zeros((rows, *self._shape), np.float32)
        for one in chosen:
            held, frames = self._of_part[one.part], self._parts[one.part].packed_frames(one.indices)
            if isinstance(held, RepresentedWindows):
                taken[one.rows] = held.take(frames)
            elif held is not None:
                taken[one.rows] = held.take(frames.of(self._name))
        return taken


def _in_memory(name: str, part: Windows) -> RepresentedWindows | FramesInMemory | None:
    """A feature of a part that the policy sees relative to poses; the part's own may be absolute,
    where its actions are numbers of no group. None: the part lacks it."""
    if name in part.represented:
        return part.represented[name].in_memory(part.frame_ranges())
    if name in part.readers:
        return FramesInMemory.of(part.readers[name], part.frame_ranges())
    return None


def _wanted(
    parts: Sequence[Windows], chosen: Sequence[PartRows]
) -> tuple[np.ndarray, WindowFrames]:
    """Each row's part, int64 [B], and its frames in the part's own packed numbers."""
    found = [parts[one.part].packed_frames(one.indices) for one in chosen]
    if len(chosen) == 1:
        return np.full(len(chosen[0].rows), chosen[0].part), found[0]
    rows = np.concatenate([one.rows for one in chosen])
    order = np.argsort(rows)
    of_row = np.repeat([one.part for one in chosen], [len(one.rows) for one in chosen])[order]
    joined = (np.concatenate(arrays)[order] for arrays in zip(*found, strict=True))
    return of_row, WindowFrames(*joined)


def _load(reader: FeatureReader, windows: Windows, there: torch.Tensor) -> None:
    """Copy a feature's frames to the device, in reads of bounded size."""
    at = 0
    for start, stop in read_plan(reader, windows.frame_ranges()):
        there[at : at + stop - start] = torch.from_numpy(reader.read(start, stop))
        at += stop - start


def resident_bytes(source: WindowSource) -> int:
    """Bytes that the episodes with windows take in memory, as readers give them."""
    return sum(part.n_frames * _frame_bytes(part) for part in source.parts)


def _frame_bytes(part: Windows) -> int:
    kept = [one for name, one in part.readers.items() if name not in part.represented]
    represented = sum(one.frame_bytes for one in part.represented.values())
    return represented + sum(one.frame_bytes for one in kept)
