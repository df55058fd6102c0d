"""The video is made beside the episodes, and is the one that would be made after them."""

import io
import sys
import threading
from pathlib import Path

import av
import numpy as np
import pytest

from dipole.envs.evaluate import evaluate
from dipole.envs.media.filming import Filming
from dipole.envs.media.video import (
    TILE_WIDTH,
    Recording,
    film_frame,
    film_stride,
    pack_frame,
    tile_width,
    video_grid,
)
from dipole.envs.rollout import Command, Simulator

sys.path.insert(0, str(Path(__file__).parent))
from fake_policy import FakePolicy
from tiny_simulator import TenSteps, TinySimulator


def plain(value):
    return pack_frame(np.full((40, 64, 3), value, np.uint8))


def decoded(video):
    with av.open(io.BytesIO(video)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def grown(recordings, steps):
    """Each recording's state after so many steps of the evaluation."""
    return [
        Recording(r.seed, r.frames[: n + 1], r.rewards[:n], r.success, done=n + 1 >= len(r.frames))
        for r, n in zip(recordings, steps, strict=True)
    ]


@pytest.fixture
def recordings():
    rng = np.random.default_rng(0)
    lengths = [3, 9, 6]
    return [
        Recording(
            i,
            [plain(int(v)) for v in rng.integers(0, 255, n + 1)],
            rng.random(n).tolist(),
            success=i == 1,
            done=True,
        )
        for i, n in enumerate(lengths)
    ]


def test_the_video_is_that_of_the_finished_recordings(recordings):
    filming = Filming(lambda: 5)
    for steps in ([0, 0, 0], [2, 3, 2], [3, 4, 6], [3, 9, 6]):
        filming(grown(recordings, steps))
    found, expected = decoded(filming.finish()), list(video_grid(recordings))
    assert len(found) == len(expected) == 10
    for frame, wanted in zip(found, expected, strict=True):
        height, width, _ = wanted.shape
        assert np.abs(frame[:height, :width].astype(int) - wanted).mean() < 4


def test_frames_are_drawn_while_episodes_run_and_not_before_all_have_come_so_far(
    recordings, monkeypatch
):
    drawn = threading.Semaphore(0)
    frames = Filming._frames

    def counting(self):
        for frame in frames(self):
            yield frame
            drawn.release()  # it was encoded, and the next one is asked for

    monkeypatch.setattr(Filming, "_frames", counting)
    filming = Filming(lambda: 5)
    filming(grown(recordings, [3, 5, 2]))
    for _ in range(2):  # the slowest has made two steps, and its last frame may be its end
        assert drawn.acquire(timeout=30)
    assert not drawn.acquire(timeout=0.05)
    filming(grown(recordings, [3, 9, 6]))
    filming.finish()
    assert sum(drawn.acquire(blocking=False) for _ in range(9)) == 8


def test_an_error_of_the_encoder_is_raised_when_the_video_is_asked_for(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr("dipole.envs.media.filming.encode_video", fail)
    result = evaluate(FakePolicy(), TinySimulator, episodes=2, video_episodes=1, picture=False)
    with pytest.raises(OSError, match="no space left"):
        result.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["episodes.csv", "metrics.json"]


def test_an_evaluation_that_fails_leaves_no_thread_behind():
    before = set(threading.enumerate())
    with pytest.raises(Exception, match="the physics exploded"):
        evaluate(
            FakePolicy(),
            TinySimulator,
            episodes=4,
            video_episodes=2,
            environment_options={"raises_in": 1},
        )
    assert set(threading.enumerate()) <= before


def test_frames_are_kept_no_wider_than_they_are_shown_and_pictures_are_not_made_smaller():
    wide = np.random.default_rng(0).integers(256, size=(300, 2 * TILE_WIDTH, 3)).astype(np.uint8)
    assert film_frame(wide).shape == (150, TILE_WIDTH, 3)
    assert film_frame(wide[:, :100]).shape == (300, 100, 3)
    with pytest.raises(ValueError, match=r"not \[H, W, 3\] uint8"):
        film_frame(wide.astype(float))


def test_of_fast_simulators_only_some_steps_are_filmed_and_the_last_one():
    assert [film_stride(fps) for fps in (10, 30, 50, 80)] == [1, 1, 2, 4]
    simulator = Simulator(TenSteps(), 1)
    film = {"record": True, "stride": 4, "width": 20}
    turns = [simulator.perform(Command(0, 0, seed=0, **film))]
    for _ in range(2):
        turns.append(simulator.perform(Command(0, 0, 0, np.zeros((5, 2), np.float32), **film)))
    assert [len(turn.frames) for turn in turns] == [1, 1, 2]  # steps 0; 4; 8 and 10
    assert turns[0].frames[0].shape[1] == 20
    kept = Recording(0, [f for t in turns for f in t.frames], list(range(10)), True, stride=4)
    assert kept.caption(2 * kept.stride).endswith("7.00")


def test_many_tiles_are_smaller():
    assert [tile_width(n) for n in (1, 16, 50, 1000)] == [TILE_WIDTH, TILE_WIDTH, 128, 96]
