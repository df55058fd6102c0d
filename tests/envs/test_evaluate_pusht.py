"""Evaluation with a diffusion policy in Push-T: equal to the last pixel, however it is run."""

import numpy as np
import pytest
import torch

from dipole.data import Feature, Features, Statistics, WindowSpec
from dipole.envs import environment_version, evaluate, make_env
from dipole.policy.policy import Policy, PolicyConfig

pytest.importorskip("gym_pusht")


@pytest.fixture(scope="module")
def policy():
    """A small U-Net with random weights, fitted to the whole table: its agent runs all over it."""
    observation = {"keypoint": Feature((9, 2)), "agent_pos": Feature((2,))}
    features = Features(observation, Feature((2,), kind="action"))
    torch.manual_seed(0)
    denoiser = {"name": "unet1d", "down_dims": (16, 32), "time_embed_dim": 16}
    policy = Policy(PolicyConfig(denoiser=denoiser), features, WindowSpec(2, 16, 8)).eval()
    corners = {
        name: np.stack([np.zeros(feature.shape), np.full(feature.shape, 512.0)])
        for name, feature in {**observation, "action": features.action}.items()
    }
    policy.fit({name: Statistics.of(values) for name, values in corners.items()})
    return policy


def run(policy, **how):
    options = {"max_steps": 18, "render_size": 96}
    return evaluate(
        policy, "pusht", episodes=4, video_episodes=4, environment_options=options, **how
    )


@pytest.fixture(scope="module")
def reference(policy):
    return run(policy, n_envs=1)


def test_blocks_are_pushed(reference):
    """Otherwise the test below would compare scenes in which nothing can go wrong."""

    def block(frame):
        return (frame.unpack() == [143, 163, 184]).all(-1)

    moved = [
        (block(film.frames[0]) ^ block(film.frames[-1])).sum() for film in reference.recordings
    ]
    assert max(moved) > 40  # pixels


@pytest.mark.parametrize("how", [{"n_envs": 3}, {"workers": 2, "n_envs": 3}])
def test_every_episode_is_the_same_to_the_last_pixel(policy, reference, how):
    result = run(policy, **how)
    assert result.episodes == reference.episodes
    assert result.recordings == reference.recordings
    assert np.array_equal(result.picture, reference.picture)


def test_results_name_the_simulator_and_the_solver(reference):
    assert reference.metrics["environment"] == environment_version("pusht")
    assert reference.metrics["environment"]["version"] == "gym-pusht 0.1.8"
    assert reference.metrics["solver"]["name"] == "ddim"


def test_the_picture_places_an_action_where_the_agent_goes(policy):
    from dipole.envs.media.picture import action_projection

    env = make_env("pusht", observation=("agent_pos",), render_size=128)
    env.reset(seed=0)
    target = np.array([100.0, 300.0])
    for _ in range(20):
        observation, *_ = env.step(target)
    column, row = action_projection(env)(observation["agent_pos"], 128, 128)
    env.target = None  # the cross would hide the agent
    red, _, blue = env.render()[int(row), int(column)].astype(int)
    assert blue - red > 80  # the agent is royal blue


def test_threads_that_infer_beside_each_other_change_no_episode(policy):
    options = {"max_steps": 18, "render_size": 96}
    before = torch.get_num_threads()
    alone, together = (
        evaluate(
            policy,
            "pusht",
            episodes=5,
            inference_batch_size=1,
            n_envs=4,
            threads=threads,
            environment_options=options,
        )
        for threads in (1, 3)
    )
    assert together.episodes == alone.episodes
    assert torch.get_num_threads() == before
