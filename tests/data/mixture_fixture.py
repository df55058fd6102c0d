"""Two small datasets of different rates, keys and cameras, for the tests of mixtures."""

from pathlib import Path

import numpy as np

from dipole.data import EpisodeStore, EpisodeWriter, Feature, Features, MixturePart, WindowSpec
from dipole.data.loading.window_spec import frames_per_step
from dipole.data.loading.windows import Windows

SPEC = WindowSpec(2, 8, 4)
FEATURES = Features(
    {
        "joints": Feature((2,)),
        "front": Feature((32, 32, 3), kind="image"),
        "wrist": Feature((32, 32, 3), kind="image"),
        "force": Feature((1,)),
    },
    Feature((3,), kind="action"),
    fps=10,
)


def write_slow(path: Path, lengths=(20, 3, 30)) -> Path:
    """10 Hz: joints, force and three actions, all about the frame's number; two cameras."""
    with EpisodeWriter(path, fps=10) as writer:
        first = 0
        for length in lengths:
            frame = np.arange(first, first + length, dtype=np.float32)
            writer.add_episode(
                {
                    "joints": np.stack([frame, -frame], 1),
                    "force": frame[:, None] / 100,
                    "action": np.stack([frame, frame + 0.25, frame + 0.5], 1),
                    "front": _pictures(frame, 1),
                    "wrist": _pictures(frame, 2),
                }
            )
            first += length
    return path


def write_fast(path: Path, lengths=(90, 110)) -> Path:
    """50 Hz, under other names: qpos of three numbers, two actions, one camera."""
    with EpisodeWriter(path, fps=50) as writer:
        first = 0
        for length in lengths:
            frame = 1000 + np.arange(first, first + length, dtype=np.float32)
            writer.add_episode(
                {
                    "qpos": np.stack([frame * 0, frame, -frame], 1),
                    "action": np.stack([frame, frame + 0.5], 1),
                    "top": _pictures(frame, 3),
                }
            )
            first += length
    return path


def _pictures(frame: np.ndarray, camera: int) -> np.ndarray:
    values = (frame.astype(np.int64) + 10 * camera) % 256
    return np.broadcast_to(values[:, None, None, None], (len(frame), 32, 32, 3)).astype(np.uint8)


def parts(slow: Path, fast: Path, weights=(0.75, 0.25)) -> list[MixturePart]:
    """The slow one has all features; the fast one no wrist, no force, and actions 0 and 2."""
    slow_store, fast_store = EpisodeStore.open(slow), EpisodeStore.open(fast)
    of_fast = Features(
        {
            "joints": Feature((2,), source="qpos", columns=(1, 2)),
            "front": Feature((32, 32, 3), kind="image", source="top"),
        },
        Feature((2,), kind="action"),
        fps=10,
    )
    return [
        MixturePart(Windows(slow_store, SPEC, FEATURES), weights[0], "slow"),
        MixturePart(
            Windows(fast_store, SPEC, of_fast, step=frames_per_step(50, 10)),
            weights[1],
            "fast",
            action_entries=(0, 2),
        ),
    ]
