"""Datasets for the tests: small ones written here, and the human Push-T data where present."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from numcodecs import Blosc

from dipole.data import EpisodeStore, EpisodeWriter
from dipole.data.sources.registry import open_source

sys.path.insert(0, str(Path(__file__).parent))
from lerobot_corpus import write_v21, write_v30
from lerobot_rows import LENGTHS

ROOT = Path(__file__).resolve().parents[2]
HUMAN = Path("pusht/pusht_cchi_v7_replay.zarr.zip")


def episodes(lengths):
    """Episodes of these lengths whose numbers say where they are from.

    state [frame, episode, frame of the episode], action [frame, -frame], camera frame % 256.
    """
    first = 0
    for episode, length in enumerate(lengths):
        frame = np.arange(first, first + length)
        state = np.stack([frame, np.full(length, episode), frame - first], 1)
        camera = np.broadcast_to((frame % 256)[:, None, None, None], (length, 4, 4, 3))
        yield {
            "state": state.astype(np.float32),
            "action": np.stack([frame, -frame], 1).astype(np.float32),
            "camera": camera.astype(np.uint8),
        }
        first += length


def write_ours(path, lengths, **options):
    with EpisodeWriter(path, **options) as writer:
        for episode in episodes(lengths):
            writer.add_episode(episode)
    return path


def write_diffusion_policy(path, lengths, chunk_frames=8):
    group = zarr.create_group(path, zarr_format=2)
    parts = list(episodes(lengths))
    for key in parts[0]:
        values = np.concatenate([part[key] for part in parts])
        group.create_array(
            f"data/{key}",
            shape=values.shape,
            chunks=(chunk_frames, *values.shape[1:]),
            dtype=values.dtype,
            compressors=Blosc(cname="zstd", clevel=5, shuffle=Blosc.BITSHUFFLE),
            config={"write_empty_chunks": True},
        )[:] = values
    ends = np.cumsum(lengths).astype(np.int64)
    group.create_array(
        "meta/episode_ends", shape=ends.shape, chunks=ends.shape, dtype="i8", compressors=None
    )[:] = ends
    return path


@pytest.fixture(scope="session")
def human_path():
    """The human Push-T data; the test is skipped where it is absent."""
    folder = Path(os.environ.get("DIPOLE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / HUMAN).is_file():
        pytest.skip(f"no {HUMAN} in {folder}: set DIPOLE_TEST_DATA to the folder that holds it")
    return folder / HUMAN


@pytest.fixture
def write(tmp_path):
    """Writes episodes of given lengths with EpisodeWriter and returns the path."""
    return lambda lengths, name="demos.zarr", **options: write_ours(
        tmp_path / name, lengths, **options
    )


@pytest.fixture
def store(write):
    """Opens a freshly written dataset of episodes with these lengths."""
    return lambda lengths: EpisodeStore.open(write(lengths))


@pytest.fixture
def write_v2(tmp_path):
    """Writes the layout of Diffusion Policy: zarr v2, Blosc, a few frames per chunk."""
    return lambda lengths, chunk_frames=8: write_diffusion_policy(
        tmp_path / "demos_v2.zarr", lengths, chunk_frames
    )


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """Copies a sound dataset of three episodes of 10 frames, of zarr version 2 or 3, to a path."""
    folder = tmp_path_factory.mktemp("sound")
    written = {
        2: write_diffusion_policy(folder / "two", [10, 10, 10]),
        3: write_ours(folder / "three", [10, 10, 10]),
    }
    return lambda version, path: shutil.copytree(written[version], path)


@pytest.fixture
def v21(tmp_path):
    """A sound dataset of three episodes, version 2.1."""
    return write_v21(tmp_path / "theirs", LENGTHS)


@pytest.fixture
def v30(tmp_path):
    """The same, version 3.0, in one file."""
    return write_v30(tmp_path / "theirs", LENGTHS)


@pytest.fixture
def filmed(tmp_path):
    """LeRobot v3.0 at 10 frames a second: two episodes in one video."""
    write_v30(tmp_path / "filmed", [20, 15], camera="video")
    return open_source(tmp_path / "filmed")
