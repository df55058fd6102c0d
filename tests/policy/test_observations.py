"""What is no observation of a policy is refused alike by the policy and by its exports."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import cameras, features, make_policy

from dipole.data import ConfigError
from dipole.data.loading.features import Features
from dipole.policy.diffusion.solvers import DDIM
from dipole.policy.runtimes.export import export_policy
from dipole.policy.runtimes.exported import load_exported
from dipole.policy.runtimes.runtime import is_installed

RUNTIMES = [name for name in ("openvino", "onnx") if is_installed(name)]
CAMERAS = {"front": (32, 32), "wrist": (16, 24)}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A policy that may do without cameras, and its exports."""
    policy = make_policy(features(**CAMERAS), camera_dropout=0.3, token_dim=8).eval()
    torch.nn.init.normal_(cameras(policy).missing.vectors["front"])
    torch.nn.init.normal_(cameras(policy).missing.vectors["wrist"])
    policy.solver = DDIM(steps=1)
    found = {"eager": policy}
    for runtime in RUNTIMES:
        folder = tmp_path_factory.mktemp("exports") / runtime
        export_policy(policy, runtime, folder)
        found[runtime] = load_exported(folder)
    return found


WRONG = {
    "float pictures": lambda o: {**o, "front": o["front"].float() / 255},
    "another size": lambda o: {**o, "front": o["front"][:, :, :16]},
    "one frame": lambda o: {**o, "agent_pos": o["agent_pos"][:, :1]},
    "no rows' axis": lambda o: {**o, "agent_pos": o["agent_pos"][0]},
    "rows that differ": lambda o: {**o, "agent_pos": o["agent_pos"][:1]},
    "no state": lambda o: {"front": o["front"]},
    "a slip of the pen": lambda o: {"agent_po": o["agent_pos"], "front": o["front"]},
}


@pytest.mark.parametrize("runtime", ["eager", *RUNTIMES])
@pytest.mark.parametrize("wrong", WRONG)
def test_the_same_is_refused_everywhere(both, runtime, wrong):
    observation = WRONG[wrong](both["eager"].fake_observation(2))
    messages = []
    for policy in (both["eager"], both[runtime]):
        with pytest.raises(ConfigError) as refused:
            policy.predict(observation)
        messages.append(str(refused.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("missing", [(), ("front",), ("wrist",), ("front", "wrist")])
def test_exports_do_without_the_cameras_that_the_policy_does_without(both, runtime, missing):
    policy, exported = both["eager"], both[runtime]
    assert list(exported.optional) == ["front", "wrist"]
    observation = policy.fake_observation(3)
    whole = exported.predict(observation, noise=torch.ones(3, 8, 2))
    for name in missing:
        del observation[name]
    ours, theirs = (p.predict(observation, noise=torch.ones(3, 8, 2)) for p in (policy, exported))
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert torch.equal(theirs, whole) is (not missing)


def test_a_policy_of_cameras_alone_needs_one_of_them():
    seen = features(**CAMERAS)
    cameras = {name: f for name, f in seen.observation.items() if f.kind == "image"}
    policy = make_policy(Features(cameras, seen.action), camera_dropout=0.3).eval()
    observation = policy.fake_observation(2)
    assert policy.predict({"wrist": observation["wrist"]}).shape == (2, 8, 2)
    for use in (policy.predict, policy.encode):
        with pytest.raises(ConfigError, match="the observation is empty"):
            use({})
