"""Push-T is gym-pusht's: states to the last bit, rewards to 1e-9, pictures to the last pixel.

`benchmarks/pusht_step.py --episodes 1000` is the same comparison at length.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import shapely

from dipole.envs import make_env, pusht_keypoints
from dipole.envs.pusht.coverage import coverage
from dipole.envs.pusht.geometry import GOAL_POSE, OUTLINE, to_world

gym_pusht = pytest.importorskip("gym_pusht.envs.pusht")


def wander(env, seed, steps):
    """Actions around the block, so that it is pushed."""
    random = np.random.default_rng(seed)
    for _ in range(steps):
        yield np.clip(env.pose[:2] + random.normal(0, 90, 2), 0, 512)


def gym(**options):
    return gym_pusht.PushTEnv(obs_type="state", **options)


def test_starts_of_many_seeds():
    env, reference = make_env("pusht"), gym()
    for seed in range(100):
        env.reset(seed=seed)
        np.testing.assert_array_equal(env.state, reference.reset(seed=seed)[0])


def test_a_reset_without_a_seed_goes_on_drawing():
    env, reference = make_env("pusht"), gym()
    for seed in (3, None, None):
        env.reset(seed=seed)
        np.testing.assert_array_equal(env.state, reference.reset(seed=seed)[0])


def test_states_rewards_and_ends_of_random_episodes():
    env, reference = make_env("pusht"), gym()
    pushed = covered = 0
    for seed in range(25):
        env.reset(seed=seed)
        reference.reset(seed=seed)
        for action in wander(env, seed, 40):
            observation, reward, terminated, _, info = env.step(action)
            state, their_reward, their_end, _, theirs = reference.step(action)
            np.testing.assert_array_equal(env.state, state)
            np.testing.assert_array_equal(env.pose, theirs["block_pose"])
            np.testing.assert_array_equal(observation["state"], state.astype(np.float32))
            np.testing.assert_array_equal(observation["agent_pos"], np.float32(theirs["pos_agent"]))
            np.testing.assert_array_equal(observation["keypoint"], pusht_keypoints(state[None])[0])
            assert abs(reward - their_reward) < 1e-9
            assert abs(info["coverage"] - theirs["coverage"]) < 1e-9
            assert terminated == info["is_success"] == their_end
            pushed += theirs["n_contacts"] > 0
            covered += reward > 0
    assert pushed > 300  # or nothing would have been compared
    assert covered > 50


def test_float32_actions_are_the_same_targets():
    env, reference = make_env("pusht"), gym()
    env.reset(seed=1)
    reference.reset(seed=1)
    for action in wander(env, 1, 20):
        env.step(np.float32(action))
        np.testing.assert_array_equal(env.state, reference.step(np.float32(action))[0])


@pytest.mark.parametrize("size", [96, 200, 384])
def test_pictures_of_random_episodes(size):
    """Agent, block, goal, walls, the marks of contact and the cross at the target."""
    env = make_env("pusht", observation=("image",), render_size=size)
    reference = gym(visualization_width=size, visualization_height=size)
    marks = 0
    for seed in range(6):
        observation, _ = env.reset(seed=seed)
        reference.reset(seed=seed)
        reference._last_action = None  # gym-pusht shows the last episode's
        np.testing.assert_array_equal(observation["image"], reference._render())
        np.testing.assert_array_equal(env.render(), reference.render())
        for action in wander(env, seed, 10):
            observation = env.step(action)[0]
            reference.step(action)
            np.testing.assert_array_equal(observation["image"], reference._render())
            np.testing.assert_array_equal(env.render(), reference.render())
            marks += reference.n_contact_points > 0
    assert marks > 10


def test_pictures_at_the_walls():
    """Walls lie over the agent and the block."""
    env, reference = make_env("pusht", observation=("image",)), gym()
    for corner in ([0, 0], [512, 0], [0, 512], [512, 512]):
        env.reset(seed=4)
        reference.reset(seed=4)
        for weight in np.linspace(0.2, 1.0, 15):
            action = (1 - weight) * env.pose[:2] + weight * np.array(corner)
            observation = env.step(action)[0]
            reference.step(action)
        np.testing.assert_array_equal(env.state, reference.get_obs())
        np.testing.assert_array_equal(observation["image"], reference._render())


def test_a_state_that_was_set_is_drawn_where_it_is():
    """The one difference: gym-pusht draws the block where the last step of the physics left it."""
    env, reference = make_env("pusht", observation=("image",)), gym()
    state = [400.0, 80.0, 150.0, 300.0, 1.0]
    image = env.reset(seed=0, options={"state": state})[0]["image"]
    reference.reset(seed=0)
    reference.block.angle, reference.block.position = state[4], state[2:4]
    reference.agent.position = state[:2]
    assert (image != reference._render()).any()
    reference.space.reindex_shapes_for_body(reference.block)
    reference.space.reindex_shapes_for_body(reference.agent)
    np.testing.assert_array_equal(image, reference._render())


def test_what_follows_a_state_depends_on_the_state_alone():
    fresh, used = make_env("pusht"), make_env("pusht")
    fresh.reset(seed=5)
    used.reset(seed=6)
    for action in wander(used, 6, 30):
        used.step(action)
    for env in (fresh, used):
        env.set_state([300, 300, 256, 256, 2.0])
    for action in wander(fresh, 5, 10):
        fresh.step(action)
        used.step(action)
        np.testing.assert_array_equal(fresh.state, used.state)


def test_advancing_and_looking_are_a_step():
    stepped, advanced = make_env("pusht"), make_env("pusht")
    stepped.reset(seed=2)
    advanced.reset(seed=2)
    for action in wander(stepped, 2, 10):
        observation, *outcome = stepped.step(action)
        assert list(advanced.advance(action)) == outcome
        for name, value in advanced.observe().items():
            np.testing.assert_array_equal(value, observation[name])


def poses():
    """On the goal, near it, anywhere, turned by right angles, shifted by whole pixels."""
    random, goal = np.random.default_rng(0), np.array(GOAL_POSE)
    for spread in ([100, 100, 3], [20, 20, 0.3], [1, 1, 0.01], [1e-6, 1e-6, 1e-9]):
        yield from goal + random.normal(0, spread, (300, 3))
    for quarter in range(8):
        for shift in ([0, 0], [15, -30], random.uniform(-90, 90, 2)):
            yield goal + np.array([*shift, quarter * np.pi / 2])
    for shift in ([60.0, 0.0], [0.0, 30.0], [-15.0, 120.0], [120.0, 0.0]):
        yield np.array([*to_world(GOAL_POSE, np.array(shift)), np.pi / 4])


def test_coverage_is_shapely_s():
    goal, some = shapely.Polygon(to_world(GOAL_POSE, OUTLINE)), 0
    for pose in poses():
        expected = goal.intersection(shapely.Polygon(to_world(pose, OUTLINE))).area / goal.area
        assert abs(coverage(pose) - expected) < 1e-12
        some += expected > 0
    assert some > 1000


def test_the_benchmark_runs(tmp_path, capsys):
    path = Path(__file__).parents[2] / "benchmarks" / "pusht_step.py"
    spec = importlib.util.spec_from_file_location("pusht_step", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    benchmark.main(["--rounds", "2", "--steps", "4", "--json", str(tmp_path / "figures.json")])
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["state"]["ratio"]["median"] > 0
    assert figures["machine"]["versions"]["gym-pusht"] == "0.1.8"
    benchmark.main(["--episodes", "1", "--steps", "4"])
    assert "0 starts, 0 states, 0 ends, 0 images" in capsys.readouterr().out
