"""The Push-T expert solves its task, the same way each time, and shows how to get back."""

import numpy as np
import pytest

from dipole.data import EpisodeStore, bundled
from dipole.data.core.errors import ConfigError
from dipole.data.recording.record import record_episode
from dipole.envs.experts import EXPERTS
from dipole.envs.experts.action_noise import Disturbance, DisturbanceSpec
from dipole.envs.experts.demonstrate import demonstrate
from dipole.envs.pusht.family import DISTURBANCE
from dipole.envs.pusht.geometry import GOAL_POSE, OUTLINE

pytest.importorskip("gym_pusht")  # imports that need it follow
shapely = pytest.importorskip("shapely")

from dipole.envs.pusht.expert.expert import point_along, velocity_after  # noqa: E402
from dipole.envs.pusht.expert.path import CLEARANCE, ring  # noqa: E402
from dipole.envs.pusht.expert.plan import Planner  # noqa: E402
from dipole.envs.pusht.expert.value import error, value  # noqa: E402
from dipole.envs.pusht.physics import PushWorld  # noqa: E402


@pytest.fixture(scope="module")
def plain():
    """Undisturbed demonstrations from three starts."""
    return [demonstrate("pusht", seed) for seed in (2_000_000, 2_000_001, 2_000_002)]


def test_the_expert_brings_the_block_home(plain):
    assert [demonstration.success for demonstration in plain] == [True] * 3
    assert all(demonstration.max_reward == 1.0 for demonstration in plain)
    assert max(len(demonstration) for demonstration in plain) < 200


def test_targets_are_near_the_agent_and_do_not_jump(plain):
    for demonstration in plain:
        action, agent = demonstration.frames["action"], demonstration.frames["state"][:, :2]
        assert np.linalg.norm(action - agent, axis=1).max() < 37.0
        assert action.min() >= 0.0
        assert action.max() <= 512.0
        speeds = np.linalg.norm(np.diff(agent, axis=0), axis=1)
        assert speeds.max() < 25.0  # the fastest per cent of the human data moves by 29


def test_the_same_seed_gives_the_same_demonstration(plain):
    first, second = (demonstrate("pusht", 2_000_002, DISTURBANCE) for _ in range(2))
    np.testing.assert_array_equal(first.frames["state"], second.frames["state"])
    np.testing.assert_array_equal(first.frames["action"], second.frames["action"])
    assert not np.array_equal(first.frames["state"][:20], plain[2].frames["state"][:20])


def test_a_disturbed_episode_records_what_the_expert_wanted():
    class Stay:
        def reset(self, seed):
            self.wanted = []

        def act(self, observation):
            self.wanted.append(observation["state"][:2] + 1.0)
            return self.wanted[-1]

    class Room:
        def reset(self, seed):
            self.steps, self.executed = 0, []
            return {"state": np.zeros(5, np.float32)}, {}

        def step(self, action):
            self.steps += 1
            self.executed.append(action)
            return {"state": np.full(5, self.steps, np.float32)}, 0.5, False, self.steps == 4, {}

    room, stay = Room(), Stay()
    demonstration = record_episode(room, stay, 9, disturb=lambda action: action + 10.0)
    np.testing.assert_array_equal(demonstration.frames["state"][:, 0], [0, 1, 2, 3])
    np.testing.assert_array_equal(demonstration.frames["action"], stay.wanted)
    np.testing.assert_array_equal(room.executed, np.add(stay.wanted, 10.0))
    np.testing.assert_array_equal(demonstration.frames["executed_action"], room.executed)
    assert (demonstration.success, demonstration.max_reward) == (None, 0.5)


def test_disturbances_are_a_function_of_the_seed():
    action = np.full(2, 256.0, np.float32)
    first, again, other = (
        np.array([disturb(action) for _ in range(50)])
        for disturb in (Disturbance(seed, DISTURBANCE) for seed in (1, 1, 2))
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1.0
    # a wandering with memory 0.6 and steps of 3 pixels has a deviation of 3 / sqrt(1 - 0.36)
    quiet = Disturbance(3, DisturbanceSpec(drift=3.0, shove_probability=0.0))
    spread = np.std([quiet(action) for _ in range(4000)])
    assert spread == pytest.approx(3.75, rel=0.1)


def test_an_unknown_expert_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'pusht'"):
        demonstrate("push", 0)
    assert EXPERTS["pusht"].environment == "pusht"


def test_the_value_of_a_pose_falls_towards_the_goal():
    steps = [float(value()(np.array([256.0 + x, 256.0, np.pi / 4]))) for x in (0, 2, 60, 150)]
    assert steps[0] == 0.0
    assert steps == sorted(steps)
    assert 30 < steps[-1] < 100


def test_error_is_the_distance_of_the_corners():
    assert error(np.array(GOAL_POSE)) == pytest.approx(0.0, abs=1e-6)
    assert error(np.array([259.0, 252.0, np.pi / 4])) == pytest.approx(5.0)


def test_a_way_around_the_block_keeps_its_distance():
    around = ring()
    start = np.array([0.0, -60.0])  # above the bar, to the far end of the stem
    goal = int(around.nearest(np.array([0.0, 150.0])))
    corners = np.concatenate([start[None], around.way(start, goal)])
    block = shapely.Polygon(OUTLINE)
    assert shapely.LineString(corners).distance(block) > 15 + CLEARANCE - 2
    assert around.from_point(start)[goal] == pytest.approx(
        np.linalg.norm(np.diff(corners, axis=0), axis=1).sum()
    )


def test_a_point_along_a_way():
    corners = np.array([[10.0, 0.0], [10.0, 20.0]])
    np.testing.assert_allclose(point_along(np.zeros(2), corners, 4.0), [4, 0])
    np.testing.assert_allclose(point_along(np.zeros(2), corners, 15.0), [10, 5])
    np.testing.assert_allclose(point_along(np.zeros(2), corners, 99.0), [10, 20])


def test_the_agent_s_velocity_is_known_from_how_it_moved():
    world, velocity = PushWorld(walls=False), np.zeros(2)
    world.set(np.array([400.0, 400.0]), velocity, np.array([100.0, 100.0, 0.0]))
    for target in ([420.0, 400.0], [440.0, 410.0], [430.0, 420.0]):
        before = world.agent_position
        world.step(target)
        velocity = velocity_after(world.agent_position - before, velocity)
        # exact for a continuous spring; the simulator's sub-steps of 0.01 s make a difference
        np.testing.assert_allclose(velocity, world.agent_velocity, atol=12.0)
    assert np.linalg.norm(world.agent_velocity) > 30.0


def test_the_bundled_demonstrations_are_the_expert_s_own():
    """What `dipole record` made with the documented seed; their first episode is made again."""
    store = EpisodeStore.open(bundled("pusht"))
    assert store.attributes["environment"] == {"id": "pusht", "version": "gym-pusht 0.1.8"}
    assert bundled("pusht").stat().st_size < 2_000_000
    assert store.n_episodes >= 150
    first = slice(0, int(store.episode_ends[0]))
    made = demonstrate("pusht", 1_000_000, DISTURBANCE)
    np.testing.assert_array_equal(store["state"][first], made.frames["state"])
    np.testing.assert_array_equal(store["action"][first], made.frames["action"])


def test_bundled_episodes_end_near_the_goal():
    store = EpisodeStore.open(bundled("pusht"))
    last = store["state"][:][store.episode_ends - 1]
    assert np.median(error(last[:, 2:].astype(np.float64))) < 12.0


@pytest.mark.filterwarnings("error")
def test_a_plan_where_all_pushes_but_one_have_failed():
    """Fewer moves are possible than are looked at: those that are not must not be computed with."""
    planner = Planner()
    failed = range(len(planner.gate) - 1)
    push = planner.plan(np.array([100.0, 100.0]), np.array([300.0, 300.0, 1.0]), failed)
    assert push.index == len(failed)
