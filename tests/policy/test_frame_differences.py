"""Several frames, and their differences in place of the earlier ones."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import SMALL_UNET, TINY_RESNET, WINDOW, cameras, features
from test_image_export import RUNTIMES, check

from dipole.policy import Policy, PolicyConfig


def policy_of(n_obs_steps=3, **encoder) -> Policy:
    torch.manual_seed(0)
    options = {"name": "image", "backbone": TINY_RESNET, "dim": 6, **encoder}
    window = replace(WINDOW, n_obs_steps=n_obs_steps)
    wanted = features(front=(32, 32), wrist=(16, 24))
    return Policy(PolicyConfig(options, SMALL_UNET), wanted, window)


def test_a_policy_sees_three_frames_each_with_its_features():
    policy = policy_of(token_dim=8).eval()
    observation = policy.fake_observation(2)
    vector = policy.encode(observation).vector.unflatten(1, (3, 14))
    encoder = cameras(policy)
    for name, start in (("front", 0), ("wrist", 6)):
        seen = encoder.encoder(name)(encoder.view(name)(observation[name])).unflatten(0, (2, 3))
        assert torch.allclose(vector[:, :, start : start + 6], seen, atol=1e-6)
    assert policy.predict(observation).shape == (2, 8, 2)
    policy.train().loss(policy.fake_batch(2)).backward()


def test_differences_are_of_the_newest_frame_s_features_to_the_earlier_ones():
    each, differing = policy_of().eval(), policy_of(differences=True).eval()
    differing.load_state_dict(each.state_dict())
    observation = each.fake_observation(2)
    plain = each.encode(observation).vector.unflatten(1, (3, 14))
    found = differing.encode(observation).vector.unflatten(1, (3, 14))
    newest = plain[:, 2:, :12]
    assert torch.equal(found[:, 2:, :12], newest)
    assert torch.equal(found[:, :2, :12], newest - plain[:, :2, :12])
    assert torch.equal(found[:, :, 12:], plain[:, :, 12:])  # numbers stay as they are
    still = {name: value[:, -1:].expand_as(value) for name, value in observation.items()}
    assert not differing.encode(still).vector.unflatten(1, (3, 14))[:, :2, :12].any()


def test_of_one_frame_there_are_no_differences():
    each, differing = policy_of(1).eval(), policy_of(1, differences=True).eval()
    observation = each.fake_observation(2)
    assert torch.equal(each.encode(observation).vector, differing.encode(observation).vector)


@pytest.mark.heavy
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_policy_of_differences_is_exported(runtime, tmp_path):
    check(policy_of(differences=True), runtime, tmp_path / "export")
