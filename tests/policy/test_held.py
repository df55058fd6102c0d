"""Dimensions of an action that hardly moved reach the robot as they were demonstrated."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dipole.data import Feature, Features, Statistics, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.diffusion.solvers import DDIM
from dipole.policy.runtimes.export import export_policy
from dipole.policy.runtimes.exported import load_exported
from dipole.policy.runtimes.runtime import is_installed

SMALL = {"name": "unet1d", "down_dims": [8, 16], "n_groups": 4, "time_embed_dim": 8}
MOVE = np.sin(np.linspace(0, 20, 400))
# rad, m, m, m a step, -1 or 1: that the last one's scale is 1 too does not make it constant
ACTION = np.stack([MOVE, 0.35 + 0 * MOVE, 0.35 + 1e-5 * MOVE, 3e-5 * MOVE, np.sign(MOVE)], 1)


def make_policy(normalize="limits"):
    torch.manual_seed(0)
    features = Features({"state": Feature((1,))}, Feature((5,), kind="action", normalize=normalize))
    head = {"name": "diffusion", "clip_sample": normalize == "limits"}
    policy = Policy(PolicyConfig(denoiser=SMALL, head=head), features, WindowSpec(2, 8, 4))
    policy.fit({"state": Statistics.of(MOVE[:, None]), "action": Statistics.of(ACTION)})
    return policy.eval().requires_grad_(False)


POLICIES = {}


@pytest.mark.parametrize("normalize", ["limits", "gaussian"])
@settings(deadline=None)
@given(st.floats(-1e6, 1e6, width=32))
def test_whatever_the_network_says(normalize, said):
    if normalize not in POLICIES:
        POLICIES[normalize] = make_policy(normalize)
    policy = POLICIES[normalize]
    action = policy.unnormalize_action(torch.full((1, 1, 5), said))[0, 0].double()
    assert float(action[1]) == float(np.float32(0.35))
    assert 0.35 - 1.1e-5 < action[2] < 0.35 + 1.1e-5
    assert abs(action[3]) <= 3.0001e-5


def test_the_others_are_not_touched():
    policy = make_policy()
    chunk = torch.full((1, 1, 5), 1.5)
    free = policy.normalizers["action"].unnormalize(chunk)
    assert torch.equal(policy.unnormalize_action(chunk)[..., [0, 4]], free[..., [0, 4]])
    assert free[0, 0, 4] == 1.5


def test_what_is_no_number_stays_none():
    policy = make_policy()
    assert policy.unnormalize_action(torch.full((1, 1, 5), torch.nan)).isnan().all()


def test_an_untrained_policy_keeps_the_axis_that_stood_still():
    policy = make_policy()
    chunk = policy.predict(policy.fake_observation(16))
    assert (chunk[..., 1] == np.float32(0.35)).all()
    assert chunk[..., 0].std() > 0


def test_a_checkpoint_from_before_is_read_and_says_nothing_of_it():
    fitted = make_policy()
    earlier = {k: v for k, v in fitted.state_dict().items() if not k.startswith("held.")}
    new = Policy(fitted.config, fitted.features, fitted.window)
    for policy, expected in ((new, 0.37), (fitted, 0.35)):
        policy.load_state_dict(earlier)
        action = policy.unnormalize_action(torch.full((1, 1, 5), 0.02))[0, 0, 1]
        assert float(action.detach()) == pytest.approx(expected)


@pytest.mark.parametrize("runtime", [n for n in ("openvino", "onnx") if is_installed(n)])
def test_exports_hold_them_too(runtime, tmp_path):
    policy = make_policy()
    policy.solver = DDIM(steps=1)
    export_policy(policy, runtime, tmp_path / "export")
    chunk = load_exported(tmp_path / "export").predict(policy.fake_observation(4))
    assert (chunk[..., 1] == np.float32(0.35)).all()


def test_a_dataset_with_ranges_of_its_own_is_held_in_its_own_numbers():
    """Trained on 2 x + 1: what comes out is x, and so is what is held."""
    policy = make_policy()
    scale, offset = torch.full((5,), 2.0), torch.ones(5)
    policy.normalizers["action"].fold(scale, offset)
    policy.held.fold(scale, offset)
    action = policy.unnormalize_action(torch.full((1, 1, 5), 0.5))[0, 0]
    assert float(action[1]) == pytest.approx((0.35 - 1) / 2)
