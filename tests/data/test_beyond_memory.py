"""A dataset ten times the memory allowed is streamed, and a window costs its own frames only."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dipole.data import EpisodeStore, EpisodeWriter, Windows, WindowSpec, make_loader

PROGRAM = Path(__file__).with_name("beyond_memory.py")
pytestmark = pytest.mark.slow
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA is Linux's")
HEIGHT, WIDTH = 480, 640


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """1,100 frames of 480×640, 0.94 GiB in memory and little on the disk: each is of one colour."""
    path = tmp_path_factory.mktemp("large") / "large.zarr"
    with EpisodeWriter(path, fps=30) as writer:
        for first in range(0, 1100, 55):
            frame = np.arange(first, first + 55)
            camera = np.empty((55, HEIGHT, WIDTH, 3), np.uint8)
            camera[:] = (frame % 256)[:, None, None, None]
            state = np.stack([frame, frame % 7], 1).astype(np.float32)
            writer.add_episode({"camera": camera, "state": state, "action": state})
    return path


def train_on(path, memory_limit):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    return subprocess.run(
        [sys.executable, str(PROGRAM), str(path), str(memory_limit)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


@LINUX
def test_a_dataset_ten_times_the_memory_allowed_is_streamed(large):
    done = train_on(large, memory_limit=0)
    assert done.returncode == 0, done.stderr
    times, frames = done.stdout.split()[-2:]
    assert int(times) >= 10
    assert int(frames) == 60 * 8 * 2


@LINUX
def test_the_same_memory_cannot_hold_the_dataset(large):
    done = train_on(large, memory_limit=2**40)
    assert done.returncode != 0
    assert "memory" in done.stderr.lower() or "allocate" in done.stderr.lower()


def test_a_window_costs_its_own_pictures_only(large, monkeypatch):
    store = EpisodeStore.open(large)
    windows = Windows(store, WindowSpec(2, 16, 8))
    decoded = []
    decode = store["camera"]._decode
    monkeypatch.setattr(
        store["camera"], "_decode", lambda a, b: decoded.append((a, b)) or decode(a, b)
    )
    loader = make_loader(windows, batch_size=1, seed=0, memory_limit_bytes=0, log=lambda _: None)
    batch = next(loader.batches(0))
    seen = sorted({int(frame) for frame in batch["observation"]["state"][0, :, 0]})
    assert decoded == [(frame, frame + 1) for frame in seen]  # two pictures, not sixteen
    assert len(seen) == 2


@pytest.mark.heavy
def test_workers_with_large_batches_under_way_end_without_an_error(large):
    """torch's own way of ending them aborts a worker that is handing over a batch."""
    windows = Windows(EpisodeStore.open(large), WindowSpec(2, 16, 8))
    options = {"batch_size": 16, "seed": 0, "memory_limit_bytes": 0, "log": lambda _: None}
    with make_loader(windows, workers=2, **options) as loader:
        batches = loader.batches(0)
        assert next(batches)["observation"]["camera"].shape == (16, 2, HEIGHT, WIDTH, 3)
    assert multiprocessing.active_children() == []
