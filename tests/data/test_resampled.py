"""Sources at another rate."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from dipole.data import ConfigError, DataError, EpisodeStore
from dipole.data.convert import convert
from dipole.data.sources.combine.resampled import parse_resample, resampled

sys.path.insert(0, str(Path(__file__).parent))
from array_source import SETTINGS, ArraySource, column, whole
from lerobot_corpus import brightness


def test_fewer_frames_are_those_of_the_same_moments():
    frames = np.arange(11.0, dtype=np.float32)[:, None] ** 2
    half = resampled(ArraySource({"action": frames}, fps=50), 25)
    assert whole(half, "action").ravel().tolist() == [0, 4, 16, 36, 64, 100]
    assert half.info.fps == 25
    assert half.episodes()[0].n_frames == 6


def test_a_teacher_s_chunks_keep_their_rate():
    source = ArraySource({"action": np.zeros((5, 2)), "teacher_chunk": np.zeros((5, 3, 2))})
    with pytest.raises(DataError, match="'teacher_chunk' are 10 a second and stay so"):
        resampled(source, 5.0)


def test_more_frames_lie_on_the_line_between():
    fine = resampled(ArraySource({"action": column(0, 1, 3, 2)}, fps=10), 20)
    assert whole(fine, "action").ravel().tolist() == [0, 0.5, 1, 2, 3, 2.5, 2]


def test_a_rate_that_does_not_divide_keeps_the_seconds():
    seconds = np.arange(31, dtype=np.float32)[:, None] / 30
    found = whole(resampled(ArraySource({"action": seconds}, fps=30), 50), "action").ravel()
    assert np.allclose(found, np.arange(51) / 50, atol=1e-6)


def test_angles_take_the_short_way_and_stay_where_they_are_written():
    turning = column(3.0, -3.0, -2.9)
    source = ArraySource({"action": turning}, action={"units": "rad"})
    found = whole(resampled(source, 20), "action").ravel()
    assert found[[0, 2, 3, 4]] == pytest.approx([3.0, -3.0, -2.95, -2.9])
    assert abs(found[1]) == pytest.approx(math.pi, abs=1e-6)
    degrees = ArraySource({"action": column(350.0, 10.0, 20.0)}, action={"units": "deg"})
    assert whole(resampled(degrees, 20), "action")[1] % 360 == pytest.approx(0.0, abs=1e-4)
    unknown = ArraySource({"action": column(350.0, 10.0, 20.0)})
    assert whole(resampled(unknown, 20), "action")[1] == pytest.approx(180.0)


def test_quaternions_go_along_the_arc_whatever_their_signs():
    turned = Rotation.from_rotvec([[0, 0, 0.0], [0, 0, 1.0], [0.5, 0, 1.0]])
    stored = np.float32(turned.as_quat() * [[1], [-1], [1]])
    names = ("qx", "qy", "qz", "qw")
    source = ArraySource({"action": stored, "eef_quat": stored}, action={"names": names})
    at = np.arange(0, 2.01, 0.25)
    right = Slerp([0, 1, 2], turned)(at)
    for key in ("action", "eef_quat"):
        found = whole(resampled(source, 40), key)
        assert np.linalg.norm(found, axis=1) == pytest.approx(1.0, abs=1e-6)
        assert (Rotation.from_quat(found) * right.inv()).magnitude().max() < 1e-3


def tumbling(n=40, seed=0):
    """A pose: a position and a quaternion whose sign changes."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 3)).cumsum(0)
    turned = Rotation.from_rotvec(vectors).as_quat()
    return np.float32(np.concatenate([vectors, turned * rng.choice([-1, 1], (n, 1))], 1))


def test_what_looks_like_a_quaternion_without_names_is_said():
    fine = resampled(ArraySource({"action": tumbling()}, {"action": tumbling(seed=1)}), 15)
    assert fine.info.warnings == ()
    whole(fine, "action"), whole(fine, "action", 1)
    (warning,) = fine.info.warnings
    assert warning.startswith("'action': columns 3 to 6 have length 1 in every frame")
    assert "--convert action:3-6=quaternion_to_6d" in warning


def test_named_quaternions_and_other_numbers_look_like_none():
    names = ("x", "y", "z", "qx", "qy", "qz", "qw")
    named = resampled(ArraySource({"action": tumbling()}, action={"names": names}), 15)
    flags = np.float32(np.eye(4)[np.arange(40) // 20])  # one of four
    other = resampled(ArraySource({"action": tumbling()[:, :3], "flags": flags}), 15)
    whole(named, "action"), whole(other, "action"), whole(other, "flags")
    assert named.info.warnings == other.info.warnings == ()


def test_pictures_whole_numbers_and_switches_are_those_of_the_nearest_frame():
    pictures = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    episode = {
        "camera": pictures,
        "count": np.array([[0], [5], [7], [9]]),
        "action": np.float32([[0, -1], [1, -1], [2, 1], [3, 1]]),
    }
    fine = resampled(ArraySource(episode, fps=10), 20)
    assert whole(fine, "camera")[:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert whole(fine, "count").ravel().tolist() == [0, 0, 5, 5, 7, 7, 9]
    assert whole(fine, "action")[:, 1].tolist() == [-1, -1, -1, -1, 1, 1, 1]
    assert whole(fine, "action")[:, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3]


def test_words_of_tasks_begin_with_the_frame_they_were_nearest_to():
    source = ArraySource(
        {"action": np.zeros((10, 1), np.float32)}, tasks=((0, "reach"), (4, "grasp"), (5, "lift"))
    )
    half = resampled(source, 5)
    assert half.open(half.episodes()[0]).tasks == ((0, "reach"), (2, "grasp"), (3, "lift"))


@SETTINGS
@given(st.integers(1, 60), st.floats(1, 100), st.floats(1, 100), st.data())
def test_any_piece_of_any_rate_is_that_piece_of_the_whole(n, fps, other, data):
    numbers = np.linspace(0, 1, n, dtype=np.float32)[:, None]
    source = resampled(ArraySource({"action": numbers}, fps=fps), other)
    episode = source.open(source.episodes()[0])
    assert episode.n_frames == source.episodes()[0].n_frames >= 1
    every = episode.read("action", 0, episode.n_frames)
    assert every[0] == numbers[0]
    assert (np.diff(every.ravel()) >= -1e-6).all()
    start = data.draw(st.integers(0, episode.n_frames - 1))
    stop = data.draw(st.integers(start + 1, episode.n_frames))
    assert np.array_equal(episode.read("action", start, stop), every[start:stop])


def test_a_rate_is_a_positive_number_and_the_datasets_own_is_known():
    source = ArraySource({"action": column(0, 1)})
    assert resampled(source, 10.0) is source
    assert parse_resample("12.5") == 12.5
    for word in ("0", "-1", "fast", "nan", "inf"):
        with pytest.raises(ConfigError, match="positive number"):
            parse_resample(word)
    with pytest.raises(DataError, match="frames per second are not recorded"):
        resampled(ArraySource({"action": column(0, 1)}, fps=None), 5)


def test_video_at_another_rate_is_decoded_to_the_nearest_frames(filmed, tmp_path):
    convert(resampled(filmed, 5), tmp_path / "b")
    store = EpisodeStore.open(tmp_path / "b")
    assert store.fps == 5
    assert brightness(store) == [*range(0, 20, 2), *range(20, 35, 2)]
    assert store["action"][:, 0].tolist() == [*range(0, 20, 2), *range(20, 35, 2)]
