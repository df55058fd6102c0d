"""Run by test_beyond_memory.py: batches of a dataset that is ten times what may be allocated."""

import itertools
import resource
import sys
from pathlib import Path

import torch

from dipole.data import EpisodeStore, Windows, WindowSpec, make_loader

ALLOWED = 96 * 2**20  # beside what the program itself needs: 64 MiB are the cache of chunks


def allocated():
    """Bytes that this process may write to, as RLIMIT_DATA counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmData:")).split()[1]) * 1024


if __name__ == "__main__":
    path, memory_limit = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    windows = Windows(EpisodeStore.open(path), WindowSpec(2, 16, 8))
    size = windows.store["camera"].nbytes
    windows.gather([0])  # what reading imports
    resource.setrlimit(resource.RLIMIT_DATA, (allocated() + ALLOWED,) * 2)
    with make_loader(windows, batch_size=8, seed=0, memory_limit_bytes=memory_limit) as loader:
        frames = 0
        for batch in itertools.islice(loader.batches(0), 60):
            camera = batch["observation"]["camera"]
            state = batch["observation"]["state"]
            assert torch.equal(camera[:, :, 0, 0, 0].float(), state[..., 0] % 256)
            frames += camera.shape[0] * camera.shape[1]
    print(size // ALLOWED, frames)
