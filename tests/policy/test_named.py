"""Observations may have any name."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import SMALL_UNET, WINDOW, features, make_policy

from dipole.data import Feature, Features
from dipole.policy import Policy, PolicyConfig
from dipole.policy.core.named import NamedModules, feature_name, module_key

NAMES = ["observation.state", "type", "values", "keys", "update", "training", "half", "state", "_"]
names = st.one_of(st.text(min_size=1, max_size=8), st.text("_.dotfeature", min_size=1, max_size=12))


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_observes_state_and_cameras_of_any_name(name):
    seen = Features({name: Feature((3,))}, Feature((2,), kind="action"))
    policy = Policy(PolicyConfig(denoiser=SMALL_UNET), seen, WINDOW)
    assert policy.predict(policy.fake_observation(2)).shape == (2, 8, 2)
    camera = make_policy(features(**{name: (32, 32)}), camera_dropout=0.1)
    camera.load_state_dict(camera.state_dict())
    camera.loss(camera.fake_batch(2)).backward()
    assert camera.eval().predict(camera.fake_observation(2)).shape == (2, 8, 2)


def test_ordinary_names_stay_what_they_are_in_a_state_dict():
    modules = NamedModules({"agent_pos": nn.Linear(1, 1, bias=False), "a.b": nn.Identity()})
    assert list(modules.state_dict()) == ["agent_pos.weight"]
    assert list(modules) == list(modules.keys()) == ["agent_pos", "a.b"]
    assert [name for name, _ in modules.items()] == ["agent_pos", "a.b"]
    assert "a.b" in modules
    assert "b" not in modules


@settings(deadline=None)
@given(names, names)
def test_every_name_has_a_key_of_its_own_that_torch_takes(one, other):
    assert feature_name(module_key(one)) == one
    assert (module_key(one) == module_key(other)) is (one == other)
    modules = NamedModules({one: nn.Linear(1, 1)})
    assert set(modules) == {one}
    nn.ParameterDict({module_key(one): torch.zeros(1)})
