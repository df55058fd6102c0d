"""Batches of windows for training: from memory where the dataset fits, else from the store."""

import weakref
from collections.abc import Callable, Generator, Iterator

import torch

from dipole.data.core.errors import ConfigError
from dipole.data.core.memory import format_bytes, resident_limit
from dipole.data.loading.batch_plan import BatchSampler
from dipole.data.loading.resident import ResidentSource, resident_bytes
from dipole.data.loading.streaming import StreamingSource
from dipole.data.loading.windows import Batch, Windows


class Loader:
    """An endless supply of batches; made by `make_loader`.

    Batch n is a function of (seed, n) alone, whichever way it is loaded. description: which way,
    and why.
    """

    def __init__(
        self, source: ResidentSource | StreamingSource, sampler: BatchSampler, description: str
    ) -> None:
        self._source = source
        self._sampler = sampler
        self._open: weakref.WeakSet[Generator[Batch]] = weakref.WeakSet()
        self.description = description

    @property
    def resident(self) -> bool:
        """Whether the whole dataset is in the device's memory."""
        return isinstance(self._source, ResidentSource)

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Batches start, start + 1, ... without end, as tensors on the device.

        {"observation": {name: [B, To, *shape]}, "action": [B, H, A], "action_is_pad": [B, H]};
        float32, images uint8, the mask bool. Raises DataError where frames cannot be read or a
        worker dies.
        """
        if start < 0:
            raise ConfigError(f"batches start at {start}: they count from 0")
        generator = _generate(self._source, start)
        self._open.add(generator)
        return generator

    def epoch(self, n: int) -> float:
        """Epochs that have been drawn before batch n."""
        return n * self._sampler.batch_size / self._sampler.n_windows

    def close(self) -> None:
        """End the iterators that are still open, and their worker processes with them."""
        for generator in list(self._open):
            generator.close()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def make_loader(
    windows: Windows,
    *,
    batch_size: int,
    seed: int,
    device: str | torch.device = "cpu",
    workers: int = 0,
    memory_limit_bytes: int | None = None,
    log: Callable[[str], object] = print,
) -> Loader:
    """A loader of the windows: resident where they fit in memory, else streaming from the store.

    memory_limit_bytes: what a resident dataset may take, by default half of the device's free
    memory; workers: background processes for streaming; log: told the choice and its reason.
    Raises DataError where there are no windows, ConfigError for numbers that cannot work.
    """
    if batch_size < 1 or workers < 0 or seed < 0:
        raise ConfigError(
            f"batch_size {batch_size}, workers {workers}, seed {seed}: "
            "a batch has at least one window, and the others are not negative"
        )
    windows.require_windows()
    device = torch.device(device)
    needed = resident_bytes(windows)
    limit = resident_limit(device) if memory_limit_bytes is None else memory_limit_bytes
    sampler = BatchSampler(len(windows), batch_size, seed)
    amounts = f"{format_bytes(needed)} of frames, {format_bytes(limit)} allowed on {device}"
    source: ResidentSource | StreamingSource
    if needed <= limit:
        source = ResidentSource(windows, sampler, device)
        description = f"resident: {amounts}"
    else:
        source = StreamingSource(windows, sampler, device, workers)
        who = f"{workers} background workers" if workers else "no background workers"
        description = f"streaming with {who}: {amounts}"
    log(f"data: {description}")
    return Loader(source, sampler, description)


def _generate(source: ResidentSource | StreamingSource, start: int) -> Generator[Batch]:
    yield from source.batches(start)
