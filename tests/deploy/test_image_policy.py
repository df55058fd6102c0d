"""An image policy moves the simulated robot: pictures pass through the loop as bytes."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "policy"))
from eyes_fixture import SMALL_UNET, TINY_RESNET

from dipole.data import Feature, Features, WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.deploy import ControlLoop, Limits, LoopConfig, VirtualClock
from dipole.deploy.inference.torch_policy import PolicyCompute, spec_of
from dipole.deploy.inference.virtual import VirtualInference
from dipole.deploy.robots.pusht.robot import VirtualPushT, _Layout, pusht_spec
from dipole.envs.pusht.environment import PushT
from dipole.policy import Policy, PolicyConfig

LIMITS = Limits((0.0,) * 2, (512.0,) * 2, (800.0,) * 2, (8000.0,) * 2)


def make_policy() -> Policy:
    features = Features(
        {"image": Feature((96, 96, 3), kind="image"), "agent_pos": Feature((2,))},
        Feature((2,), kind="action"),
    )
    encoder = {"name": "image", "backbone": TINY_RESNET, "crop": 84}
    head = {"name": "diffusion", "solver": {"name": "ddim", "steps": 2}}
    config = PolicyConfig(encoder=encoder, denoiser=SMALL_UNET, head=head)
    return Policy(config, features, WindowSpec(2, 8, 4)).eval()


def loop_with(*observation):
    clock, policy = VirtualClock(), make_policy()
    robot = VirtualPushT(clock, observation=observation, sensor_hz=10.0)
    robot.spec = type(robot.spec)(robot.spec.observation, robot.spec.action, LIMITS)
    seen = []

    class Watching(PolicyCompute):
        def __call__(self, ticket, observed):
            seen.append(observed["image"])
            return super().__call__(ticket, observed)

    inference = VirtualInference(spec_of(policy), Watching(policy), clock)
    loop = ControlLoop(robot, inference, LoopConfig(), clock=clock, log=lambda line: None)
    return loop, seen


def test_the_loop_shows_pictures_as_bytes_and_moves():
    loop, seen = loop_with("image", "agent_pos")
    loop.prepare()
    loop.arm()
    report = loop.run(1.0)
    assert report.counts["actions"] > 5
    assert {(picture.shape, str(picture.dtype)) for picture in seen} == {((2, 96, 96, 3), "uint8")}


def test_a_robot_without_the_camera_is_refused_before_anything_moves():
    with pytest.raises(ConfigError, match="observes 'image', the robot has agent_pos, key"):
        loop_with("keypoint", "agent_pos")[0].prepare()


def test_pictures_pass_between_processes_unchanged():
    from dipole.deploy.robots.pusht.world import WorldConfig
    from dipole.deploy.robots.robot import Reading

    layout = _Layout(pusht_spec(WorldConfig(observation=("image", "agent_pos"))))
    env = PushT(observation=("image", "agent_pos"))
    observation = env.reset(seed=0)[0]
    found = layout.unpack(layout.pack(Reading(1.5, observation), 0.5))
    assert found.time == 1.5
    assert found.values["image"].dtype == np.uint8
    assert np.array_equal(found.values["image"], observation["image"])
