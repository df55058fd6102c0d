"""Videos of what a policy sees beside the scene."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "policy"))
from eyes_fixture import features, make_policy
from fake_policy import FakePolicy
from tiny_simulator import ShySimulator

from dipole.data import ConfigError, Feature, Features
from dipole.deploy.evaluation.settings import EvaluationSettings
from dipole.envs.evaluate import evaluate
from dipole.envs.media.video import Recording, arranged, pack_frame
from dipole.envs.media.views import PolicyViews
from dipole.envs.rollout import Command, Simulator
from dipole.policy import Policy, PolicyConfig

SCENE = pack_frame(np.full((48, 64, 3), 90, np.uint8))


def seen(policy):
    """One step of an observation, without its frames."""
    return {name: value[0, 0].numpy() for name, value in policy.fake_observation(1).items()}


def without_label(panel):
    """Above the line of text."""
    return panel[:30]


def test_each_camera_is_beside_the_scene_as_the_network_is_given_it():
    one_keypoint = {"name": "spatial_softmax", "n_keypoints": 1}
    policy = make_policy(
        features(front=(32, 32), wrist=(16, 24)), crop={"front": 24}, pooling=one_keypoint
    ).eval()
    views = PolicyViews(policy)
    one = seen(policy)
    one["front"][:], one["wrist"][:] = 200, 100
    one["front"][:4] = 0  # beyond the crop
    (frame,) = views.beside([SCENE], [one], width=64)
    pixels = frame.unpack()
    assert views.panels == 3
    assert pixels.shape == (48, 3 * 64, 3)
    assert (pixels[:, :64] == 90).all()
    front, wrist = pixels[:, 66:128], pixels[:, 130:192]
    # Each as large as fits, in the middle: 48 x 48 and 41 x 62, but for its keypoint.
    assert (without_label(front)[:, 7:55] == 200).mean() > 0.95
    assert (without_label(wrist)[4:] == 100).mean() > 0.95
    assert not front[:30, :7].any()
    assert not wrist[:3].any()


def test_keypoints_are_drawn_into_the_pictures():
    policy = make_policy(pooling={"name": "spatial_softmax", "n_keypoints": 1}).eval()
    one = seen(policy)
    one["front"][:] = 255
    pixels = PolicyViews(policy).beside([SCENE], [one], width=64)[0].unpack()
    panel = without_label(pixels[:, 66:])
    assert (panel.max(2) > panel.min(2)).any()  # in colour


def test_the_frame_after_each_step_has_the_observation_after_it():
    simulator = Simulator(ShySimulator(), n_obs_steps=2)
    start = simulator.perform(Command(0, 0, 3, None, record=True, views=True))
    assert len(start.frames) == len(start.views) == 1
    command = Command(0, 0, 3, np.zeros((4, 2)), record=True, views=True, stride=2)
    turn = simulator.perform(command)
    assert len(turn.frames) == len(turn.views) == 2
    assert np.array_equal(turn.views[-1]["position"], turn.observations[-1]["position"])
    assert not simulator.perform(replace(command, views=False)).views


def test_wide_tiles_make_fewer_columns():
    eight = [Recording(seed, panels=2) for seed in range(8)]
    assert arranged(eight) == (list(range(8)), 2)
    assert arranged([replace(each, panels=1) for each in eight]) == (list(range(8)), None)


def test_policies_that_do_not_see_and_exports_are_refused_before_anything_runs():
    config = PolicyConfig({"name": "state"}, make_policy().config.denoiser)
    blind = Policy(
        config,
        Features({"pose": Feature((2,))}, Feature((2,), kind="action")),
        make_policy().window,
    )
    with pytest.raises(ConfigError, match="this policy observes pose, no picture: leave it out"):
        evaluate(blind, ShySimulator, video_episodes=1, video_views=True)
    with pytest.raises(ConfigError, match="an export cannot say: evaluate the checkpoint"):
        evaluate(FakePolicy(), ShySimulator, video_episodes=1, video_views=True)


@pytest.mark.parametrize("without", [{"video_episodes": 0}, {"delay": 1}])
def test_views_without_a_video_are_refused(without):
    with pytest.raises(ConfigError, match=r"video_views=true with .*: no video is made"):
        EvaluationSettings("run", video_views=True, **without)
