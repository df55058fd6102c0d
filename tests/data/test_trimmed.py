"""Sources without idle time."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipole.data import ConfigError, EpisodeStore
from dipole.data.convert import convert
from dipole.data.sources.combine.trimmed import Trim, parse_trim, trimmed
from dipole.data.sources.combine.wrapped import WrappedEpisode, WrappedSource
from dipole.data.transforms.idle import idle_stretches

sys.path.insert(0, str(Path(__file__).parent))
import lerobot_corpus as corpus
from array_source import SETTINGS, ArraySource, waiting, whole
from lerobot_corpus import brightness


def test_idle_time_at_the_ends_goes_but_for_what_is_kept():
    numbers = waiting()
    source = ArraySource({"action": numbers, "state": numbers})
    short = trimmed(source)
    assert short.episodes()[0].n_frames == 38
    assert np.array_equal(whole(short, "action"), numbers[8:46])
    assert short.info.warnings == (
        "trimmed 27 of 65 frames, idle at the ends of episodes, from 1 of 1 episodes",
    )


def test_idle_time_everywhere_goes():
    source = ArraySource({"action": waiting()})
    short = trimmed(source, Trim(everywhere=True, keep=0.3))
    found = whole(short, "action").ravel()
    assert len(found) == 65 - 7 - 13 - 18
    assert np.abs(np.diff(found)).max() < 0.13
    assert "idle, from 1" in short.info.warnings[0]


def test_what_moves_in_any_key_is_no_idle_time():
    still = np.zeros((30, 1), np.float32)
    source = ArraySource(
        {"action": np.linspace(0, 1, 30, dtype=np.float32)[:, None], "state": still}
    )
    assert trimmed(source).episodes()[0].n_frames == 30
    clock = {"action": still + 1, "timestamp": np.arange(30, dtype=np.float32)[:, None]}
    assert trimmed(ArraySource(clock)).episodes()[0].n_frames == 30  # nothing ever moves


@pytest.mark.parametrize(
    "key", ["dones", "next.reward", "next.done", "is_last", "info.success", "Truncated"]
)
def test_how_an_episode_went_is_no_motion(key):
    numbers = waiting()
    for dtype in (bool, np.float32, np.int64):
        ends = np.zeros((65, 1), dtype)
        ends[-1] = 1
        short = trimmed(ArraySource({"action": numbers, key: ends}))
        assert short.episodes()[0].n_frames == 38


def test_words_that_hold_where_an_episode_now_begins_stay():
    source = ArraySource(
        {"action": waiting()}, tasks=((0, "wait"), (3, "reach"), (20, "rest"), (60, "end"))
    )
    short = trimmed(source)
    assert short.open(short.episodes()[0]).tasks == ((0, "reach"), (12, "rest"))


@SETTINGS
@given(st.lists(st.sampled_from([0.0, 0.005, 1.0, 2.0]), min_size=1, max_size=40),
       st.integers(1, 6))  # fmt: skip
def test_idle_stretches_are_idle_as_long_as_can_be_and_none_is_missed(values, least):
    numbers, tolerance = np.array(values)[:, None], np.array([0.01])
    found = idle_stretches(numbers, tolerance, least)
    inside = np.zeros(len(values), bool)
    for start, stop in found:
        assert stop - start >= least
        assert np.abs(numbers[start:stop] - numbers[start]).max() <= 0.01
        inside[start:stop] = True
    for start in range(len(values) - least + 1):
        window = numbers[start : start + least]
        if np.abs(window - window[0]).max() <= 0.01:
            assert inside[start : start + least].any()


@pytest.mark.parametrize(
    ("word", "trim"),
    [
        ("idle", Trim()),
        ("idle:all", Trim(everywhere=True)),
        ("idle,keep=0.5", Trim(keep=0.5)),
        ("idle:all,keep=0,least=2,tolerance=0.05", Trim(True, 0.0, 2.0, 0.05)),
    ],
)
def test_the_words_of_trimming(word, trim):
    assert parse_trim(word) == trim


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("ends", "idle, or idle:all"),
        ("idle,keep", "no NAME=NUMBER"),
        ("idle,kept=1", "no 'kept'"),
        ("idle,tolerance=2", "between 0 and 1"),
        ("idle,keep=1", "less than least"),
    ],
)
def test_words_of_trimming_that_mean_nothing_are_refused(word, message):
    with pytest.raises(ConfigError, match=message):
        parse_trim(word)


class Still(WrappedSource):
    """The same with an action that stands still for the first 6 frames."""

    def open(self, ref):
        return StillEpisode(super().open(ref))


class StillEpisode(WrappedEpisode):
    def read(self, key, start, stop):
        if "image" in key:
            return super().read(key, start, stop)
        frames = super().read(key, 0, self.n_frames)
        frames = np.concatenate([frames[:1].repeat(6, 0), frames[6:]])
        return frames[start:stop]


def test_video_that_is_trimmed_at_the_ends_stays_video(filmed, tmp_path):
    convert(trimmed(Still(filmed, filmed.info), Trim(keep=0.2)), tmp_path / "b")
    store = EpisodeStore.open(tmp_path / "b")
    assert store.schema(corpus.CAMERA)["storage"] == "video"
    assert store.n_frames == 16 + 11
    assert brightness(store) == [*range(4, 20), *range(24, 35)]


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
@pytest.mark.parametrize("by", [1, -2, 0.02])
def test_a_counter_of_any_name_is_no_motion_and_is_named(dtype, by):
    steps = by * np.arange(65) if dtype is np.float32 else np.arange(65) * max(round(by), 1)
    counter = np.stack([steps, 7 + 0 * steps], 1).astype(dtype)
    episode = {"action": waiting(), "state": waiting(), "step": counter}
    short = trimmed(ArraySource(episode, episode))
    assert [ref.n_frames for ref in short.episodes()] == [38, 38]
    assert short.info.warnings[-1].startswith(
        "'step', column 0, goes on by the same in every frame"
    )


def test_what_goes_on_at_another_pace_in_another_episode_is_motion():
    ramp = np.arange(65, dtype=np.float32)[:, None]
    still = np.zeros((65, 1), np.float32)
    slow, fast = ({"action": waiting(), "belt": pace * ramp} for pace in (1, 2))
    assert trimmed(ArraySource(slow, fast)).episodes()[0].n_frames == 65
    uneven = {"action": waiting(), "x": np.cumsum(1 + 0.1 * (ramp % 2), 0)}
    assert trimmed(ArraySource(uneven)).episodes()[0].n_frames == 65
    command = {"action": np.concatenate([waiting(), ramp], 1), "state": still}
    assert trimmed(ArraySource(command)).episodes()[0].n_frames == 65  # what is commanded, moves


def test_a_short_episode_says_nothing_of_counters():
    long = {"action": waiting(), "step": np.arange(65, dtype=np.int64)}
    short = {"action": waiting()[:2], "step": np.int64([0, 5])}
    assert trimmed(ArraySource(long, short)).episodes()[0].n_frames == 38
