"""What `validate` says of a recording: clocks, cameras, lags, idle time."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from recording_warnings import QUATERNION, moving, turning, warnings_of

from dipole.data import DataError, EpisodeWriter
from dipole.data.inspection.other_formats import open_store
from dipole.data.inspection.validate import validate

RNG = np.random.default_rng(0)


# Time ---------------------------------------------------------------------------------------------


def clock(stamps):
    return {"timestamp": np.float64(stamps)[:, None], "action": moving(len(stamps))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: np.where(np.arange(60) >= 30, t + 0.5, t), "1 gap, the longest of 6.0 frames "
         "before frame 30"),
        (lambda t: np.where(np.arange(60) == 30, 0.3, t), "time stands still or runs back at frame "
         "30"),
        (lambda t: np.where(np.arange(60) == 30, 2.9, t), "time stands still or runs back at frame "
         "30"),
        (lambda t: t * 10 / 7, "frames are 7 a second by these time stamps, and the dataset says "
         "10"),
    ],
)  # fmt: skip
def test_time_stamps_that_jump_or_have_another_rate_are_warnings(tmp_path, change, message):
    found = warnings_of(tmp_path / "a", clock(change(np.arange(60) / 10)))
    assert any(message in each for each in found)
    assert all(each.startswith("timestamp: ") for each in found)


def test_time_stamps_with_some_jitter_are_sound_and_begin_anew_with_each_episode(tmp_path):
    stamps = np.arange(60) / 10 + RNG.uniform(-0.02, 0.02, 60)
    assert warnings_of(tmp_path / "a", clock(stamps), clock(stamps + 1e5)) == []


def camera(n, frozen=()):
    frames = RNG.integers(0, 255, (n, 8, 8, 3), dtype=np.uint8)
    for first, last in frozen:
        frames[first : last + 1] = frames[first]
    return frames


def test_a_camera_whose_frames_stay_the_same_while_the_state_moves_is_a_warning(tmp_path):
    state = moving()
    episode = {"camera": camera(60), "state": state, "action": moving(seed=1)}
    frozen = {**episode, "camera": camera(60, [(20, 35)])}
    (message,) = warnings_of(tmp_path / "a", episode, frozen)
    assert message.startswith(
        "camera: its frames stay the same for 1.5 s from frame 80 (episode 1, its frame 20) on"
    )


def test_a_slow_camera_and_one_that_sees_nothing_move_are_sound(tmp_path):
    slow = {"camera": np.repeat(camera(30), 2, 0), "state": moving(), "action": moving(seed=1)}
    assert warnings_of(tmp_path / "a", slow) == []
    state = moving()
    state[20:40] = state[20]
    still = {"camera": camera(60, [(20, 39)]), "state": state, "action": state}
    found = warnings_of(tmp_path / "b", still)
    assert not any("camera" in each for each in found)


def test_frames_of_depth_in_which_nothing_was_seen_are_a_warning(tmp_path):
    depth = RNG.integers(1, 9000, (60, 6, 8, 1)).astype(np.uint16)
    depth[[7, 30]] = 0
    with EpisodeWriter(tmp_path / "a", features={"depth": {"kind": "depth"}}) as writer:
        writer.add_episode({"depth": depth, "action": moving()})
    found = validate(tmp_path / "a")
    assert [f"{f.where}: {f.message}" for f in found.findings] == [
        "depth: all pixels are 0 in 2 frames, first in frame 7 (episode 0, its frame 7): the "
        "camera saw no depth. Leave those episodes out"
    ]


# Tasks --------------------------------------------------------------------------------------------


def test_episodes_without_words_beside_others_with_words_are_a_warning(tmp_path):
    with EpisodeWriter(tmp_path / "a") as writer:
        for task in ("pick it up", "", ((0, "pick it up"), (30, ""))):
            writer.add_episode({"action": moving()}, task)
    (warning,) = validate(tmp_path / "a").warnings
    assert warning.where == "tasks"
    assert warning.message.startswith(
        "2 of 3 episodes have frames without words for their task (1-2), the first is frame 60 "
        "(episode 1, its frame 0)"
    )


def test_one_task_in_two_spellings_is_a_warning(tmp_path):
    with EpisodeWriter(tmp_path / "a") as writer:
        for task in ("Pick it up.", "pick  it up", "put it down"):
            writer.add_episode({"action": moving()}, task)
    (warning,) = validate(tmp_path / "a").warnings
    assert "the tasks 'Pick it up.' and 'pick  it up' are counted as two" in warning.message


def test_a_dataset_without_any_words_has_no_warnings_of_tasks(tmp_path):
    assert warnings_of(tmp_path / "a", {"action": moving()}) == []


# Other formats ------------------------------------------------------------------------------------


def test_a_dataset_of_another_format_is_named_with_the_command_that_converts_it(tmp_path):
    with h5py.File(tmp_path / "lift.hdf5", "w") as file:
        demo = file.create_group("data/demo_0")
        demo["actions"], demo["obs/state"] = moving(), moving(columns=3)
    (problem,) = validate(tmp_path / "lift.hdf5").problems
    assert "HDF5 of robomimic, 1 episode with " in problem.message
    command = f"convert it by `dipole data convert {tmp_path / 'lift.hdf5'} lift.zarr`"
    assert command in problem.message
    with pytest.raises(DataError, match="1 episode with"):
        open_store(tmp_path / "lift.hdf5")
    assert open_store("bundled:pusht").n_episodes > 1


# Lags ---------------------------------------------------------------------------------------------


def smooth(n):
    """A position that changes its velocity all the time."""
    steps = np.random.default_rng(1).normal(size=(n + 40, 3))
    kernel = np.hanning(9)[:, None]
    return np.stack([np.convolve(s, kernel[:, 0], "same") for s in steps.T], 1).cumsum(0)


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(st.integers(-6, 6), st.booleans(), st.floats(0, 0.05))
def test_the_lag_of_the_action_is_said_in_frames(tmp_path_factory, lead, named, noise):
    path = smooth(300)
    state = path[20:320] + noise * RNG.normal(size=(300, 3))
    action = path[20 + lead : 320 + lead]
    names = {"names": ["a", "b", "c"]}
    features = {"state": names, "action": names} if named else None
    found = warnings_of(tmp_path_factory.mktemp("lag") / "a", {"state": state, "action": action},
                        features=features, fps=30.0)  # fmt: skip
    if lead > 0:
        assert found == []
    elif lead == 0:
        assert "the action is the state 'state' of the same frame in 3 dimensions" in found[0]
    else:
        frames = "1 frame" if lead == -1 else f"{-lead} frames"
        assert f"action: the action lags {frames} behind the state 'state'" in found[0]


def swinging(n, seed=0):
    """Sums of sines of 0.4 to 0.9 Hz at 50 frames a second."""
    time, phase = np.arange(n)[:, None] / 50, np.random.default_rng(seed).uniform(0, 6, (2, 2))
    slow = np.sin(2 * np.pi * np.array([0.5, 0.4]) * time + phase[0])
    return slow + 0.3 * np.sin(2 * np.pi * np.array([0.9, 0.8]) * time + phase[1])


@pytest.mark.parametrize("lag", [0, 1, 2, 3])
@pytest.mark.parametrize("noise", [0, 1e-5])
def test_the_lag_of_slow_and_smooth_motions_is_said_in_frames(tmp_path, lag, noise):
    def episode(seed):
        path = swinging(300, seed) + noise * RNG.normal(size=(300, 2))
        action = path[: 300 - lag] + noise * RNG.normal(size=(300 - lag, 2))
        return {"joints": path[lag:], "action": action}

    found = warnings_of(tmp_path / "a", *map(episode, range(5)), fps=50.0)
    assert len(found) == 1
    lags = f"lags {lag} frame{'s' if lag > 1 else ''} behind the state 'joints' in 2 dimensions"
    assert (lags if lag else "the state 'joints' of the same frame in 2 dim") in found[0]


@pytest.mark.parametrize("lead", [1, 2, 3])
def test_smooth_motions_that_follow_their_actions_are_sound(tmp_path, lead):
    episodes = [swinging(300, seed) for seed in range(5)]
    led = ({"joints": path[:-lead], "action": path[lead:]} for path in episodes)
    assert warnings_of(tmp_path / "a", *led, fps=50.0) == []


def test_an_action_that_is_the_state_is_said_where_every_velocity_is_the_same(tmp_path):
    ramp = np.arange(300.0)[:, None] * np.array([1.0, 2.0])
    (message,) = warnings_of(tmp_path / "a", {"joints": ramp, "action": ramp})
    assert "the action is the state 'joints' of the same frame in 2 dimensions" in message


def test_episodes_shorter_than_the_farthest_lag_say_nothing_of_it(tmp_path):
    state, action = RNG.normal(size=(2, 20, 18, 2))
    episodes = [{"joints": s, "action": a} for s, a in zip(state, action, strict=True)]
    assert not [m for m in warnings_of(tmp_path / "a", *episodes, fps=50.0) if "lags" in m]


def test_an_action_far_ahead_of_the_state_is_a_warning(tmp_path):
    path = smooth(300)
    episode = {"state": path[:300], "action": path[5:305]}
    (message,) = warnings_of(tmp_path / "a", episode, fps=10.0)
    assert "the action leads the state 'state' by 0.5 s or more" in message


def test_actions_that_are_velocities_have_no_lag(tmp_path):
    path = smooth(300)
    episode = {"state": path[:300], "action": np.diff(path[:301], axis=0) * 5}
    assert warnings_of(tmp_path / "a", episode, fps=10.0) == []


# Idle time ----------------------------------------------------------------------------------------


def test_idle_time_at_the_ends_is_a_warning_with_the_words_that_cut_it(tmp_path):
    path = np.concatenate([np.zeros((20, 2)), moving(60) + 200])
    path[:20] = path[20]
    (message,) = warnings_of(tmp_path / "a", {"state": path, "action": path})
    assert message.startswith(
        "idle: nothing moves at the beginning or end of episodes for 21 frames, 26% of all and up "
        "to 2.1 s"
    )
    assert "--trim idle" in message


def test_idle_time_is_said_where_only_a_flag_of_success_changes(tmp_path):
    path = np.concatenate([moving(60), np.repeat(moving(60)[-1:], 20, 0)])
    success = np.arange(80.0)[:, None] == 79
    found = warnings_of(tmp_path / "a", {"state": path, "action": path, "success": success})
    assert "nothing moves at the beginning or end of episodes for 21 frames" in found[-1]


def test_idle_time_within_episodes_is_a_warning(tmp_path):
    path = moving(60)
    path[20:40] = path[20]
    (message,) = warnings_of(tmp_path / "a", {"state": path, "action": path})
    assert "nothing moves within episodes for 20 frames, 33% of all" in message
    assert "begins at frame 20 (episode 0, its frame 20)" in message


def test_little_idle_time_is_sound(tmp_path):
    path = moving(300)
    path[100:112] = path[100]
    assert warnings_of(tmp_path / "a", {"state": path, "action": moving(300, seed=2)}) == []


# Cost ---------------------------------------------------------------------------------------------


def test_whole_numbers_are_not_asked_whether_they_are_finite(tmp_path, monkeypatch):
    with EpisodeWriter(tmp_path / "a") as writer:
        writer.add_episode({"camera": camera(60), "action": moving()})
    asked = []
    isfinite = np.isfinite

    def noted(values, *words, **options):
        asked.append(getattr(values, "dtype", None))
        return isfinite(values, *words, **options)

    monkeypatch.setattr(np, "isfinite", noted)
    assert validate(tmp_path / "a").ok
    assert np.dtype(np.uint8) not in asked


def test_a_damaged_array_is_not_looked_at_any_further(tmp_path):
    with EpisodeWriter(tmp_path / "a", features=QUATERNION) as writer:
        writer.add_episode({"pose": turning(), "action": moving()})
    pose = zarr.open_group(tmp_path / "a", mode="r+")["data/pose"]
    pose[3] = np.nan
    found = validate(tmp_path / "a")
    assert [f.where for f in found.findings] == ["pose"]
    assert not found.ok


def test_idle_time_is_said_beside_a_counter_of_any_name(tmp_path):
    path = np.concatenate([moving(60), np.repeat(moving(60)[-1:], 20, 0)])
    episode = {"state": path, "action": path, "step": np.arange(80)[:, None]}
    found = warnings_of(tmp_path / "a", episode)
    assert "nothing moves at the beginning or end of episodes for 21 frames" in found[-1]


def test_a_camera_that_sees_nothing_move_but_a_counter_is_sound(tmp_path):
    path = moving(60)
    path[10:40] = path[10]
    camera = RNG.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    camera[10:40] = camera[10]
    episode = {"state": path, "action": path, "camera": camera, "step": np.arange(60)[:, None]}
    assert not [m for m in warnings_of(tmp_path / "a", episode) if "freeze" in m]
