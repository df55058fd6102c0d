"""The whole dataset as tensors on the device: a batch is one gather per feature."""

from collections.abc import Iterator

import numpy as np
import torch

from dipole.data.loading.batch_plan import BatchSampler
from dipole.data.loading.statistics import pieces
from dipole.data.loading.windows import Batch, Windows


class ResidentSource:
    """Batches from memory.

    Holds each feature's frames of the chosen episodes, [frames, *shape], after columns and
    transforms.
    """

    def __init__(self, windows: Windows, sampler: BatchSampler, device: torch.device) -> None:
        self._windows = windows
        self._sampler = sampler
        self._device = device
        self._frames = {name: self._load(name) for name in windows.readers}

    def batches(self, start: int) -> Iterator[Batch]:
        n = start
        while True:
            yield self.batch(n)
            n += 1

    def batch(self, n: int) -> Batch:
        """Batch n, as tensors on the device."""
        observed, acted, is_pad = self._windows.packed_frames(self._sampler.indices(n))
        observation_frames = self._to_device(observed)
        observation = {
            name: self._gather(name, observation_frames, observed.shape)
            for name in self._windows.features.observation
        }
        action = self._gather("action", self._to_device(acted), acted.shape)
        mask = self._to_device(is_pad).view(is_pad.shape)
        return {"observation": observation, "action": action, "action_is_pad": mask}

    def _to_device(self, array: np.ndarray) -> torch.Tensor:
        """Flat, there. From pinned memory a copy to a GPU is queued, instead of waited for."""
        flat = torch.from_numpy(np.ascontiguousarray(array).reshape(-1))
        if self._device.type != "cuda":
            return flat.to(self._device)
        return flat.pin_memory().to(self._device, non_blocking=True)

    def _gather(self, name: str, frames: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        stored = self._frames[name]
        return stored.index_select(0, frames).view(*shape, *stored.shape[1:])

    def _load(self, name: str) -> torch.Tensor:
        """A feature's frames of the chosen episodes, copied piece by piece to the device."""
        windows, reader = self._windows, self._windows.readers[name]
        dtype = torch.uint8 if reader.feature.kind == "image" else torch.float32
        loaded = torch.empty(
            (int(windows.lengths.sum()), *reader.feature.shape), dtype=dtype, device=self._device
        )
        at = 0
        for start, stop in pieces(reader, windows.spans()):
            frames = torch.from_numpy(reader.read(start, stop))
            loaded[at : at + stop - start] = frames.to(self._device)
            at += stop - start
        return loaded


def resident_bytes(windows: Windows) -> int:
    """Bytes that the chosen episodes take in memory, after columns and transforms."""
    features = windows.features.named().values()
    frame = sum(feature.size * feature.dtype.itemsize for feature in features)
    return frame * int(windows.lengths.sum())
