"""Batches of windows for training: from memory where the dataset fits, else from the store."""

import weakref
from collections.abc import Callable, Generator, Iterator

import torch

from dipole.data.core.errors import ConfigError
from dipole.data.core.memory import format_bytes, resident_limit
from dipole.data.loading.batch_plan import BatchPlan
from dipole.data.loading.resident import ResidentSource, resident_bytes
from dipole.data.loading.streaming import StreamingSource
from dipole.data.loading.window_source import Batch, WindowSource

_TOO_LARGE = (
    "does not fit into the local cache, so that its frames are fetched again in every epoch, a "
    "block for each window: give train.shuffle_blocks=64 to draw from 64 shards at a time, or a "
    "larger DIPOLE_CACHE_SIZE"
)


class Loader:
    """An endless supply of batches; made by `make_loader`.

    Batch n is a function of (seed, n) alone, whichever way it is loaded. description: which way,
    and why.
    """

    def __init__(
        self, source: ResidentSource | StreamingSource, plan: BatchPlan, description: str
    ) -> None:
        self._source = source
        self._plan = plan
        self._open: weakref.WeakSet[Generator[Batch]] = weakref.WeakSet()
        self.description = description

    @property
    def resident(self) -> bool:
        """Whether all of the data is in the device's memory."""
        return isinstance(self._source, ResidentSource)

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Batches start, start + 1, ... without end, as tensors on the device.

        What they hold: see `WindowSource.gather`. Of several ranks, this one's rows. Raises
        DataError where frames cannot be read or a worker dies.
        """
        if start < 0:
            raise ConfigError(f"batches start at {start}: they count from 0")
        generator = _generate(self._source, start)
        self._open.add(generator)
        return generator

    def epoch(self, n: int) -> float:
        """Epochs that have been drawn before batch n: rows per window, all parts together."""
        return n * self._plan.batch_size / self._plan.n_windows

    def close(self) -> None:
        """End the iterators that are still open, and their worker processes with them."""
        for generator in list(self._open):
            generator.close()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def make_loader(
    source: WindowSource,
    *,
    batch_size: int,
    seed: int,
    device: str | torch.device = "cpu",
    workers: int = 0,
    memory_limit_bytes: int | None = None,
    shuffle_blocks: int | None = None,
    rank: int = 0,
    ranks: int = 1,
    log: Callable[[str], object] = print,
) -> Loader:
    """A loader of the windows: resident where they fit in memory, else streaming from the store.

    source: Windows of one dataset, or a mixture.
    batch_size: Over all ranks.
    workers: Background processes for streaming.
    memory_limit_bytes: What resident data may take on this machine, shared by the ranks; by default
        half of the device's free memory.
    shuffle_blocks: Windows are drawn out of so many shards of the dataset at a time; None: out of
        all. See `BlockOrder`.
    rank, ranks: Which rows of each batch are this process's: rank, rank + ranks, ...
    log: Told the choice and its reason.
    Raises DataError where there are no windows, ConfigError for numbers that cannot work.
    """
    if batch_size < 1 or workers < 0 or seed < 0:
        raise ConfigError(
            f"batch_size {batch_size}, workers {workers}, seed {seed}: "
            "a batch has at least one window, and the others are not negative"
        )
    source.require_windows()
    device = torch.device(device)
    sizes = [len(part) for part in source.parts]
    plan = BatchPlan(
        sizes,
        batch_size,
        seed,
        weights=source.weights,
        blocks=None if shuffle_blocks is None else [part.block_ends() for part in source.parts],
        open_blocks=shuffle_blocks,
        rank=rank,
        ranks=ranks,
    )
    needed = resident_bytes(source)
    if memory_limit_bytes is None:
        limit = resident_limit(device, ranks)
    else:
        limit = memory_limit_bytes // ranks
    amounts = f"{format_bytes(needed)} of frames, {format_bytes(limit)} allowed on {device}"
    made: ResidentSource | StreamingSource
    if needed <= limit:
        made = ResidentSource(source, plan, device)
        description = f"resident: {amounts}"
    else:
        made = StreamingSource(source, plan, device, workers)
        who = f"{workers} background workers" if workers else "no background workers"
        description = f"streaming with {who}: {amounts}"
        for part in source.parts:
            if shuffle_blocks is None and not part.store.files.keeps_all:
                log(f"data: {part.store.path} {_TOO_LARGE}")
    if plan.blocks is not None:
        n_blocks = " + ".join(f"{len(ends):,}" for ends in plan.blocks)
        description += f"; shuffled within {shuffle_blocks} of {n_blocks} blocks at a time"
    log(f"data: {description}")
    return Loader(made, plan, description)


def _generate(source: ResidentSource | StreamingSource, start: int) -> Generator[Batch]:
    yield from source.batches(start)
