"""What a mixture's dataset lacks: no loss for missing actions, zeros or stand-ins for the rest."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import WINDOW, cameras, features, make_policy

from dipole.data import ConfigError, Feature, Features
from dipole.policy import Policy, PolicyConfig
from dipole.policy.heads import ChunkBatch

SMALL = {"name": "unet1d", "down_dims": [8, 16], "n_groups": 4, "time_embed_dim": 8}
STATE = Features({"state": Feature((3,)), "force": Feature((1,))}, Feature((2,), kind="action"))


def state_policy(**head):
    torch.manual_seed(0)
    config = PolicyConfig(denoiser=SMALL, head={"name": "diffusion", **head})
    return Policy(config, STATE, WINDOW)


def loss_of(policy, batch):
    torch.manual_seed(5)
    return float(policy.loss(batch).detach())


def test_a_mask_of_nothing_changes_nothing():
    policy = state_policy()
    batch = policy.fake_batch(4)
    masks = {
        "action_is_missing": torch.zeros(4, 2, dtype=torch.bool),
        "observation_is_missing": {"force": torch.zeros(4, dtype=torch.bool)},
    }
    assert loss_of(policy, batch) == pytest.approx(loss_of(policy, {**batch, **masks}))


def test_missing_actions_have_no_loss_and_no_influence():
    policy = state_policy()
    batch = policy.fake_batch(4)
    missing = torch.tensor([[False, True]] * 4)
    changed = batch["action"].clone()
    changed[..., 1] += 7
    one = loss_of(policy, {**batch, "action_is_missing": missing})
    other = loss_of(policy, {**batch, "action": changed, "action_is_missing": missing})
    assert one == other != loss_of(policy, batch)


def test_what_is_predicted_for_missing_actions_is_not_learned_from():
    policy = state_policy()
    batch = {**policy.fake_batch(4), "action_is_missing": torch.tensor([[False, True]] * 4)}
    offset = torch.zeros(2, requires_grad=True)
    policy.head.denoiser.forward = lambda noisy, time, context: noisy * 0 + offset
    policy.loss(batch).backward()
    assert offset.grad[0] != 0
    assert offset.grad[1] == 0


def test_the_loss_is_the_mean_over_what_counts():
    head = state_policy().head
    actions = torch.zeros(2, 8, 2)
    counted = torch.zeros(2, 8, 2, dtype=torch.bool)
    counted[0, 3, 1] = True
    head.denoiser.forward = lambda noisy, time, context: noisy * 0
    torch.manual_seed(1)
    noise = torch.randn_like(actions)
    torch.manual_seed(1)
    loss = head.loss(ChunkBatch(actions, counted=counted), None).total
    assert float(loss) == pytest.approx(float(noise[0, 3, 1] ** 2))


def test_padding_has_a_loss_unless_it_is_told_otherwise():
    published, without = state_policy(), state_policy(counts_padding=False)
    batch = published.fake_batch(4)
    padded = {**batch, "action_is_pad": torch.arange(8).expand(4, 8) >= 6}
    assert loss_of(published, padded) == loss_of(published, batch)
    assert loss_of(without, batch) == pytest.approx(loss_of(published, batch))
    assert loss_of(without, padded) != loss_of(published, padded)


def test_missing_numbers_are_zero_for_the_network():
    policy = state_policy()
    observation = policy.fake_observation(3)
    missing = {"force": torch.tensor([True, False, False])}
    seen = policy.encode(observation, missing).vector.view(3, 2, 4)  # state, then force
    whole = policy.encode(observation).vector.view(3, 2, 4)
    assert seen[0, :, 3].tolist() == [0, 0]
    assert torch.equal(seen[1:], whole[1:])


def test_a_missing_camera_is_replaced_by_its_stand_in():
    policy = make_policy(features(front=(32, 32), wrist=(32, 32)), camera_dropout=0.1).eval()
    observation = policy.fake_observation(2)
    missing = {"wrist": torch.tensor([True, False])}
    some = policy.encode(observation, missing).vector
    without = policy.encode({k: v for k, v in observation.items() if k != "wrist"}).vector
    assert torch.allclose(some[0], without[0], atol=1e-6)
    assert torch.allclose(some[1], policy.encode(observation).vector[1], atol=1e-6)


def test_what_training_leaves_of_the_cameras_lacks_the_missing_ones_too():
    policy = make_policy(features(front=(32, 32), wrist=(32, 32)), camera_dropout=0.5)
    absent = cameras(policy).missing
    missing = {"wrist": torch.arange(200) % 2 == 0}
    drawn = absent.draw(["front", "wrist"], 200, training=True)
    there = absent.without(drawn, missing)
    assert not there["wrist"][missing["wrist"]].any()
    assert torch.equal(there["wrist"][~missing["wrist"]], drawn["wrist"][~missing["wrist"]])
    assert torch.equal(there["front"], drawn["front"])


def test_without_stand_ins_a_missing_camera_is_refused():
    policy = make_policy(features(front=(32, 32), wrist=(32, 32)))
    missing = {"wrist": torch.tensor([True, False])}
    with pytest.raises(ConfigError, match=r"'wrist' is missing .*camera_dropout=0\.1"):
        policy.encode(policy.fake_observation(2), missing)
