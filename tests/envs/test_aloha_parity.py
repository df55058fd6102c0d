"""What happens is what happens in gym-aloha: joints, objects and rewards, to the last bit."""

import numpy as np
import pytest

pytestmark = pytest.mark.heavy
pytest.importorskip("gym_aloha")

TASKS = ("transfer_cube", "insertion")


@pytest.fixture
def theirs(monkeypatch):
    """gym-aloha without its pictures, which take a quarter of a second a step."""
    from dipole.envs.media.headless import prepare_rendering

    prepare_rendering()
    import gym_aloha.env
    from gym_aloha.tasks import sim

    monkeypatch.setattr(
        sim.BimanualViperXTask, "get_observation", lambda self, p: {"qpos": self.get_qpos(p)}
    )
    monkeypatch.setattr(gym_aloha.env.AlohaEnv, "_format_raw_obs", lambda self, raw: raw["qpos"])
    return gym_aloha.env.AlohaEnv


@pytest.mark.parametrize("task", TASKS)
def test_the_same_actions_lead_to_the_same_states_and_rewards(task, theirs):
    from dipole.envs import make_env
    from dipole.envs.experts import EXPERTS

    published, ours = theirs(task), make_env(f"aloha/{task}")
    expert = EXPERTS["aloha"].build(ours)
    joints, _ = published.reset(seed=5)
    seen, _ = ours.reset(seed=5)
    expert.reset(5)
    simulation, physics = ours.unwrapped.simulation, published._env.physics
    np.testing.assert_array_equal(simulation.state, joints)
    best = 0
    for _ in range(280):
        action = expert.act(seen).astype(np.float64)
        joints, reward, *_ = published.step(action)
        seen, ours_reward, *_ = ours.step(action)
        np.testing.assert_array_equal(simulation.state, joints)
        np.testing.assert_array_equal(simulation.data.qpos, physics.data.qpos)
        assert ours_reward == reward
        best = max(best, reward)
    assert best == 4
