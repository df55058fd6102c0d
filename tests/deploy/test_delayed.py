"""Latency-honest evaluation: a delay is charged in full, and without one nothing changes."""

from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import PendulumEnv

from dipole.data import Feature, Features, WindowSpec
from dipole.data.core.errors import ConfigError, DipoleError
from dipole.deploy.evaluation.latency import evaluate_delayed
from dipole.deploy.evaluation.simulated_robot import SimulatedRobot
from dipole.deploy.loop.clock import VirtualClock
from dipole.envs import EnvSpec, evaluate, make_env
from dipole.envs.interface import Interface
from dipole.envs.rollout import Command, SimulatorPool


class Wanderer:
    """Wanders about, by its own noise and by what it sees."""

    window = WindowSpec(n_obs_steps=2, horizon=16, n_action_steps=8)
    features = Features(
        {"keypoint": Feature((9, 2)), "agent_pos": Feature((2,))},
        # As another dataset names them: evaluation, unlike deployment, compares no names and units.
        Feature((2,), kind="action", names=("motor_0", "motor_1"), units="m"),
        fps=10.0,
    )
    device = torch.device("cpu")

    def predict(self, observation, generator=None):
        steps = torch.stack([torch.randn(16, 2, generator=g) for g in generator])
        middle = observation["keypoint"][:, -1].mean(1, keepdim=True)
        here = observation["agent_pos"][:, -1:]
        way = torch.linspace(0, 1, 16)[None, :, None] * (middle - here)
        return (here + way + 8 * steps.cumsum(1)).clip(20, 490)


def test_without_delay_the_results_are_those_of_evaluation():
    delayed = evaluate_delayed(Wanderer(), delay=0, episodes=3, seed=5)
    plain = evaluate(Wanderer(), "pusht", episodes=3, seed=5)
    assert delayed.episodes == plain.episodes
    assert delayed.metrics["max_reward_mean"] > 0


def test_a_delay_is_charged_and_is_deterministic():
    results = [evaluate_delayed(Wanderer(), delay=4, episodes=2).metrics for _ in range(2)]
    assert all(result.pop("seconds") > 0 for result in results)
    assert results[0] == results[1]
    assert results[0]["delay"] == 4
    none = evaluate_delayed(Wanderer(), delay=0, episodes=2).metrics
    assert none["per_episode"] != results[0]["per_episode"]


def test_a_delay_longer_than_what_is_left_of_a_chunk_starves():
    # 15 actions of a chunk, the next asked for after 8: 7 are left
    assert evaluate_delayed(Wanderer(), delay=7, episodes=1).metrics["starved_steps"] == 0
    assert evaluate_delayed(Wanderer(), delay=9, episodes=1).metrics["starved_steps"] > 20


def test_cross_fading_has_smaller_seams_than_switching():
    seams = {
        merger: evaluate_delayed(Wanderer(), delay=2, episodes=2, merger=merger).metrics[
            "seam_jump"
        ]
        for merger in ("switch", "cross_fade")
    }
    assert 0 < seams["cross_fade"] < 0.5 * seams["switch"]


def test_a_delay_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="delay is -1"):
        evaluate_delayed(Wanderer(), delay=-1)


def test_push_t_as_any_environment_gives_what_push_t_gives():
    other = EnvSpec("pusht", {"render_size": 64})  # not the plain one, whose physics goes on alone
    for delay in (0, 3, 9):
        plain = evaluate_delayed(Wanderer(), delay=delay, episodes=2, seed=5)
        general = evaluate_delayed(Wanderer(), other, delay=delay, episodes=2, seed=5)
        assert general.episodes == plain.episodes
        assert general.metrics["starved_steps"] == plain.metrics["starved_steps"]


class Swinger:
    """Applies torques by its own noise and by what it sees, some of them out of bounds."""

    window = WindowSpec(n_obs_steps=2, horizon=16, n_action_steps=8)
    features = Features({"state": Feature((3,))}, Feature((1,), kind="action"), fps=20.0)
    device = torch.device("cpu")

    def predict(self, observation, generator=None):
        noise = torch.stack([torch.randn(16, 1, generator=g) for g in generator])
        return noise + 2 * observation["state"][:, -1:, 2:]


def test_any_environment_can_be_delayed():
    plain = evaluate(Swinger(), "gym:Pendulum-v1", episodes=3, seed=5)
    without = evaluate_delayed(Swinger(), "gym:Pendulum-v1", delay=0, episodes=3, seed=5)
    assert without.episodes == plain.episodes
    assert {episode.steps for episode in plain.episodes} == {200}
    late = [evaluate_delayed(Swinger(), "gym:Pendulum-v1", delay=9, episodes=2) for _ in range(2)]
    assert late[0].episodes == late[1].episodes
    assert late[0].metrics["starved_steps"] > 20
    assert late[0].metrics["score_name"] == "return_mean"


def test_only_push_t_takes_commands_at_another_rate():
    with pytest.raises(ConfigError, match="'gym:Pendulum-v1' takes one command a step, 20 a"):
        evaluate_delayed(Swinger(), "gym:Pendulum-v1", delay=1, control_hz=100.0)


class Stumbling(PendulumEnv):
    """Raises in the second step of the episode of one seed."""

    def reset(self, *, seed=None, options=None):
        self.fails, self.made = seed == 22, 0
        return super().reset(seed=seed)

    def step(self, action):
        self.made += 1
        if self.fails and self.made == 2:
            raise ZeroDivisionError("it stumbled")
        return super().step(action)


def test_an_episode_that_fails_is_named_by_its_number_and_seed():
    gymnasium.register("Stumbling-v0", Stumbling, max_episode_steps=10)
    said = r"episode 17 \(seed 22\): the simulator raised ZeroDivisionError: it stumbled"
    try:
        with pytest.raises(DipoleError, match=said):
            evaluate_delayed(Swinger(), "gym:Stumbling-v0", delay=1, episodes=18, seed=5)
    finally:
        del gymnasium.registry["Stumbling-v0"]


class Counted(PendulumEnv):
    """Says that it succeeded in its third step, and how many of it were made."""

    made = 0

    def __init__(self):
        super().__init__()
        type(self).made += 1

    def reset(self, *, seed=None, options=None):
        self.age = 0
        return super().reset(seed=seed)

    def step(self, action):
        self.age += 1
        observation, *rest, _ = super().step(action)
        return observation, *rest, {"is_success": self.age == 3}


@pytest.fixture
def counted():
    gymnasium.register("Counted-v0", Counted, max_episode_steps=10)
    Counted.made = 0
    yield "gym:Counted-v0"
    del gymnasium.registry["Counted-v0"]


def test_success_in_any_step_counts_and_simulators_are_used_again(counted):
    found = evaluate_delayed(Swinger(), counted, delay=1, episodes=5, inference_batch_size=1)
    assert [episode.success for episode in found.episodes] == [True] * 5
    assert Counted.made == 2  # to look at it first, and for all episodes


def test_until_the_first_command_the_world_waits(counted):
    clock = VirtualClock()
    pool = SimulatorPool(
        partial(make_env, counted), 1, Interface.of(Swinger.features, EnvSpec(counted), {})
    )
    robot = SimulatedRobot(clock, pool, Command(0, 0, seed=3), hz=20.0)
    robot.connect()
    clock.sleep_until(1.0)
    robot.observe()
    assert pool.environment(0).unwrapped.age == 0
    robot.command(np.zeros(1))
    clock.sleep_until(1.1)
    robot.observe()
    assert pool.environment(0).unwrapped.age == 2
    assert robot.episode_result().steps == 2
