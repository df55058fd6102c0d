"""Limits that a configuration gives: one number for all groups makes no group brake later."""

import sys
from pathlib import Path

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError
from dipole.deploy import ActionGroup, ActionSpec, Channel, Limits, RobotSpec, VirtualClock
from dipole.deploy.robots import registry
from dipole.deploy.safety.command_filter import CommandFilter

sys.path.insert(0, str(Path(__file__).parent / "support"))
from virtual_robot import VirtualRobot

REACH = Limits((-2.8,) * 2, (2.8,) * 2, velocity=(1.0,) * 2, acceleration=(4.0,) * 2)
ROLLING = Limits((-0.5, -1.0), (0.5, 1.0), velocity=(1.0, 2.0), acceleration=(5.0, 10.0))


class ArmOnBase(VirtualRobot):
    """Two joints on a base of two velocities; base: its limits."""

    def __init__(self, base=ROLLING):
        super().__init__(VirtualClock())
        arm = ActionGroup("arm", "joint_position", ("j1", "j2"), "rad", "joints", limits=REACH)
        moved = ActionGroup("base", "twist", ("vx", "wz"), "m/s, rad/s", limits=base)
        self.spec = RobotSpec({"joints": Channel((2,), unit="rad")}, ActionSpec.of(arm, moved))


@pytest.fixture
def made(monkeypatch):
    """Make the robot with limits of a configuration."""
    monkeypatch.setattr(registry, "ROBOTS", {"robot": ArmOnBase})
    return lambda limits, **options: registry.make_robot("robot", options, limits)


def base_of(robot):
    return robot.spec.action.groups[1].limits


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"velocity": 0.2}, "limits.velocity=0.2"),
        ({"velocity": 0.3, "acceleration": 1}, "limits.velocity=0.3 and limits.acceleration=1"),
        ({"low": -0.5, "high": 0.5, "acceleration": 0.5}, "limits.acceleration=0.5"),
    ],
)
def test_one_number_for_all_that_has_a_base_stop_later_is_refused(made, limits, told):
    with pytest.raises(ConfigError) as refused:
        made(limits)
    said = str(refused.value)
    assert said.startswith(f"{told} for all groups: of 'base', a twist")
    assert "Slow it by limits.base.low and limits.base.high, and name the other groups" in said


@pytest.mark.parametrize(
    "limits",
    [
        {"velocity": [0.2] * 4},  # of each number
        {"base": {"velocity": 0.2}},  # by its name
    ],
)
def test_a_base_that_is_named_is_taken_at_its_word(made, limits):
    assert base_of(made(limits)).velocity == (0.2, 0.2)


@pytest.mark.parametrize(
    "limits", [{"velocity": 4, "acceleration": 80}, {"low": -0.1, "high": 0.1}]
)
def test_one_number_for_all_that_has_no_base_stop_later_is_taken(made, limits):
    found = base_of(made(limits))
    assert {name: getattr(found, name)[0] for name in limits} == limits


def test_a_base_without_limits_of_its_own_takes_those_for_all(made):
    limits = {"low": -0.5, "high": 0.5, "velocity": 0.2, "acceleration": 1.0}
    assert base_of(made(limits, base=None)).velocity == (0.2, 0.2)


def test_a_base_is_slowed_by_its_low_and_high_and_stops_sooner(made):
    def top_and_slots(limits):
        commands = CommandFilter(made(limits).spec.action, 0.01)
        commands.reset(np.zeros(4))
        for _ in range(500):
            top = commands.step(np.array([2.0, 0.0, 0.5, 1.0])).values[2:]
        slots = 0
        while np.abs(commands.step(None).values[2:]).max() > 0:
            slots += 1
        return np.abs(top).max(), slots

    top, slots = top_and_slots({})
    slow, sooner = top_and_slots({"base": {"low": -0.1, "high": 0.1}})
    assert (top, slow) == (pytest.approx(1.0), pytest.approx(0.1))
    assert sooner < slots / 2
