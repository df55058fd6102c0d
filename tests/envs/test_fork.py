"""Fork: two ways round a disc, an expert that takes either, and what the environment says of it."""

import numpy as np
import pytest

from dipole.data import EpisodeStore, bundled
from dipole.data.core.errors import ConfigError
from dipole.data.recording.record import record_episode
from dipole.data.view.scene import SCENES
from dipole.envs.experts import EXPERTS
from dipole.envs.experts.demonstrate import demonstrate
from dipole.envs.fork.environment import Fork
from dipole.envs.fork.geometry import (
    DISC,
    GOAL,
    START,
    collides,
    mode_entropy,
    modes,
    path,
    path_errors,
)
from dipole.envs.registry import environment_version, make_env

FIRST_SEED = 1_000_000  # of the bundled demonstrations


def driven(env, positions, seed=0):
    """The last of an episode whose actions are these positions."""
    env.reset(seed=seed)
    for position in positions:
        last = env.step(np.asarray(position, np.float32))
        if last[2] or last[3]:
            break
    return last


def from_start(env, side, seed=0):
    env.reset(seed=seed)
    return path(env.position, side, 0.27)[1:]


@pytest.mark.parametrize(("side", "mode"), [(-1.0, "left"), (1.0, "right")])
def test_both_ways_lead_to_the_goal(side, mode):
    env = Fork()
    _, reward, terminated, truncated, info = driven(env, from_start(env, side))
    asked = {"left": "left", "right": "right", "any": mode}[env.label]
    assert (terminated, truncated, info["collision"], info["mode"]) == (True, False, False, mode)
    assert info["is_success"] == (asked == mode) == bool(reward)


def test_the_mean_of_both_ways_collides():
    env = Fork(observation=("state",))
    mean = (from_start(env, -1.0) + from_start(env, 1.0)) / 2
    _, reward, terminated, _, info = driven(env, mean)
    assert (reward, terminated) == (0.0, True)
    assert info == {"is_success": False, "collision": True, "mode": None}


def test_success_with_a_label_in_view_means_its_side():
    for label, success in (("left", True), ("any", True), ("right", False)):
        env = Fork(label=label)
        info = driven(env, from_start(env, -1.0))[4]
        assert (info["mode"], info["is_success"]) == ("left", success)


def test_a_policy_that_sees_no_label_is_not_judged_by_it():
    env = Fork(observation=("state",), label="right")
    assert driven(env, from_start(env, -1.0))[4]["is_success"]


def test_the_robot_moves_by_its_largest_step_at_most():
    env = Fork()
    env.reset(seed=0)
    before = env.position
    env.step(np.array([0.9, before[1]], np.float32))
    np.testing.assert_allclose(env.position - before, [0.08, 0.0], atol=1e-7)


def test_an_episode_that_goes_nowhere_is_truncated():
    env = Fork(max_steps=3)
    _, _, terminated, truncated, info = driven(env, [START] * 3)
    assert (terminated, truncated, info["mode"]) == (False, True, None)


def test_a_fast_robot_cannot_step_over_the_disc_s_edge():
    assert collides(DISC + np.array([-0.04, 0.136]), DISC + np.array([0.04, 0.136]))
    assert not collides(DISC + np.array([-0.04, 0.15]), DISC + np.array([0.04, 0.15]))
    assert collides(DISC, DISC)


def test_the_same_seed_is_the_same_episode():
    first, second, other = (Fork().reset(seed=seed)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first["state"], second["state"])
    assert first["label"] == second["label"]
    assert not np.array_equal(first["state"], other["state"])
    labels = [float(Fork().reset(seed=seed)[0]["label"][0]) for seed in range(200)]
    assert set(labels) == {-1.0, 0.0, 1.0}
    assert 80 <= labels.count(0.0) <= 120  # half of them, 2.8 standard deviations


def test_pictures_show_the_scene_with_y_up():
    env = make_env("fork", observation=("state", "image"), render_size=200)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    env.step(np.array([0.5, 0.2], np.float32))
    frame = env.render()
    assert frame.shape == (200, 200, 3)
    column, row = env.unwrapped.action_pixels(GOAL, 200, 200).round().astype(int)
    assert (column, row) == (100, 20)
    assert frame[row, column].tolist() == [144, 238, 144]
    assert frame[100, 100].tolist() == [119, 136, 153]
    assert frame[190, 10].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label": "lef"}, "'lef'. Known: left, any, right"),
        ({"observation": ("state", "lable")}, "did you mean 'label'"),
        ({"observation": ()}, "observation is empty"),
        ({"max_steps": 0}, "at least 1"),
        ({"gravity": 1}, "environment 'fork' has no option 'gravity'"),
    ],
)
def test_what_cannot_be_is_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        make_env("fork", **options)


def test_actions_are_two_finite_numbers():
    env = Fork()
    env.reset(seed=0)
    for action in ([0.1], [np.nan, 0.1]):
        with pytest.raises(ValueError, match="two finite numbers"):
            env.step(np.array(action))


def test_a_path_s_mode_is_its_side_at_the_disc():
    left, right = path(START, -1.0, 0.3), path(START, 1.0, 0.24)
    assert modes(np.stack([left, right, right])) == ["left", "right", "right"]
    assert modes(np.stack([left, right])[:, :8]) == ["left", "right"]
    assert mode_entropy(["left"] * 3 + ["right"]) == pytest.approx(0.8112781)
    assert mode_entropy(["right"] * 9) == 0.0


def test_a_path_s_error_is_its_distance_to_the_nearest_demonstration():
    start = START + np.array([0.02, -0.01])
    exact = path(start, -1.0, 0.26)[1:16]
    shifted = exact + np.array([0.0, 0.01])
    wide = path(start, 1.0, 0.35)[1:16]
    found = path_errors(np.stack([exact, shifted, wide]), np.stack([start] * 3))
    arc = np.sin(np.pi * np.arange(1, 16) / 24)
    expected = [0.0, 0.01, 0.05 * np.sqrt((arc**2).mean())]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_expert_goes_left_as_often_as_right():
    shown = [demonstrate("fork", seed) for seed in range(40)]
    assert all(each.success and len(each) == 24 for each in shown)
    found = modes(np.stack([each.frames["state"] for each in shown]))
    labels = np.array([each.frames["label"][0, 0] for each in shown])
    sides = np.array([1.0 if mode == "right" else -1.0 for mode in found])
    np.testing.assert_array_equal(sides[labels != 0], labels[labels != 0])
    free = labels == 0
    np.testing.assert_array_equal(sides[free], np.where(np.arange(40) % 2, 1.0, -1.0)[free])


def test_the_expert_comes_back_from_where_it_was_pushed():
    env, expert = make_env("fork"), EXPERTS["fork"].build(make_env("fork"))
    shown = record_episode(env, expert, 3, lambda action: action + np.float32([0.01, 0.0]))
    offset = shown.frames["state"][1:] - shown.frames["action"][:-1]  # 0.01 a step, not 0.01 more
    np.testing.assert_allclose(offset, np.tile([0.01, 0.0], (len(offset), 1)), atol=1e-6)


def test_the_bundled_demonstrations_are_the_expert_s_own():
    store = EpisodeStore.open(bundled("fork"))
    assert store.attributes["environment"]["id"] == "fork"
    assert environment_version("fork")["version"].startswith("dipole ")
    assert bundled("fork").stat().st_size < 200_000
    assert (store.n_episodes, store.n_frames) == (300, 300 * 24)
    for episode in (0, 137):
        frames = slice(24 * episode, 24 * (episode + 1))
        made = demonstrate("fork", FIRST_SEED + episode)
        for key in ("state", "label", "action"):
            np.testing.assert_allclose(store[key][frames], made.frames[key], atol=1e-6)
    assert mode_entropy(modes(store["state"][:].reshape(300, 24, 2))) > 0.99


def test_the_scene_shows_what_the_demonstrations_hold():
    store = EpisodeStore.open(bundled("fork"))
    columns = {key: store[key].shape[1] for key in ("state", "action")}
    assert SCENES["fork"].fits(columns)
    assert SCENES["fork"].to_dict()["y_down"] is False
