"""Whole datasets as tensors on the device: a batch is one gather per part and feature."""

from collections.abc import Iterator

import numpy as np
import torch

from dipole.data.loading.batch_plan import BatchPlan
from dipole.data.loading.feature_reader import FeatureReader
from dipole.data.loading.statistics import read_plan
from dipole.data.loading.window_source import Batch, WindowSource
from dipole.data.loading.windows import Windows


class ResidentSource:
    """Batches from memory."""

    def __init__(self, source: WindowSource, plan: BatchPlan, device: torch.device) -> None:
        self._source = source
        self._plan = plan
        self._parts = [ResidentWindows(windows, device) for windows in source.parts]

    def batches(self, start: int) -> Iterator[Batch]:
        n = start
        while True:
            yield self.batch(n)
            n += 1

    def batch(self, n: int) -> Batch:
        """Batch n, as tensors on the device."""
        chosen = self._source.by_part(self._plan.indices(n))
        return self._source.assemble(
            chosen, [self._parts[one.part].gather(one.indices) for one in chosen]
        )


class ResidentWindows:
    """The windows of one dataset.

    Holds each feature's frames of the episodes that have windows, [frames, *shape], as its reader
    gives them.
    """

    def __init__(self, windows: Windows, device: torch.device) -> None:
        self._windows = windows
        self._device = device
        self.frames = {name: self._load(reader) for name, reader in windows.readers.items()}

    def gather(self, indices: np.ndarray) -> Batch:
        """As `Windows.gather`, tensors on the device."""
        wanted = self._windows.packed_frames(indices)
        observed = self._to_device(wanted.observed)
        observation = {
            name: self._gather(name, observed, wanted.observed.shape)
            for name in self._windows.features.observation
        }
        action = self._gather("action", self._to_device(wanted.acted), wanted.acted.shape)
        is_pad = self._to_device(wanted.is_pad).view(wanted.is_pad.shape)
        return {"observation": observation, "action": action, "action_is_pad": is_pad}

    def _to_device(self, array: np.ndarray) -> torch.Tensor:
        """Flat, there. From pinned memory a copy to a GPU is queued, instead of waited for."""
        flat = torch.from_numpy(np.ascontiguousarray(array).reshape(-1))
        if self._device.type != "cuda":
            return flat.to(self._device)
        return flat.pin_memory().to(self._device, non_blocking=True)

    def _gather(self, name: str, frames: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        stored = self.frames[name]
        return stored.index_select(0, frames).view(*shape, *stored.shape[1:])

    def _load(self, reader: FeatureReader) -> torch.Tensor:
        """A feature's frames, copied to the device in reads of bounded size."""
        dtype = torch.uint8 if reader.feature.kind == "image" else torch.float32
        loaded = torch.empty(
            (self._windows.n_frames, *reader.shape), dtype=dtype, device=self._device
        )
        at = 0
        for start, stop in read_plan(reader, self._windows.frame_ranges()):
            frames = torch.from_numpy(reader.read(start, stop))
            loaded[at : at + stop - start] = frames.to(self._device)
            at += stop - start
        return loaded


def resident_bytes(source: WindowSource) -> int:
    """Bytes that the episodes with windows take in memory, as readers give them."""
    return sum(
        part.n_frames * sum(reader.frame_bytes for reader in part.readers.values())
        for part in source.parts
    )
