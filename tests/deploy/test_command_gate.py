"""The command gate: what it lets pass is within the limits, whoever made it."""

import sys
from pathlib import Path

import numpy as np
import pytest

from dipole.deploy import ActionGroup, ActionSpec, Limits
from dipole.deploy.safety.command_gate import CommandGate
from dipole.deploy.safety.supervisor import RobotFault

sys.path.insert(0, str(Path(__file__).parent / "support"))
from filtered_groups import DT, POSE, group_of, turned


@pytest.mark.parametrize(
    ("start", "wrong", "message"),
    [
        (0.0, np.nan, "not 1 finite numbers"),
        (0.0, 10.1, "g: x0 is outside its box"),
        (0.0, 0.51, "g: x0 is faster than its limit"),
    ],
)
def test_the_gate_lets_nothing_wrong_pass_whoever_made_it(start, wrong, message):
    from dipole.deploy.safety.command_filter import Command

    gate = CommandGate(ActionSpec.of(group_of()), DT)
    gate.start(np.array([start]))
    gate.check(Command(np.array([start])))
    with pytest.raises(RobotFault, match=message):
        gate.check(Command(np.array([wrong])))


def test_the_gate_compares_rotations_by_their_angle():
    from dipole.deploy.safety.command_filter import Command

    gate = CommandGate(ActionSpec.of(POSE), DT)
    gate.start(turned(-5.7))
    for degrees in (0.0, 5.7):  # 0.0995 rad each, at most 0.1
        gate._groups[0][0]._v[3:] = [0.0, 0.0, np.radians(57.0)]  # as if it turned before
        gate.check(Command(turned(degrees, sign=-1.0)))
    with pytest.raises(RobotFault, match="tool: its rotation is faster than its limit"):
        gate.check(Command(turned(12.0)))


def test_the_gate_refuses_what_turns_round_at_once_though_it_is_slow():
    from dipole.deploy.safety.command_filter import Command

    limits = Limits((-10.0,), (10.0,), (5.0,), (4.0,))
    group = ActionGroup("g", "joint_position", ("x0",), "rad", measured_by="x", limits=limits)
    gate = CommandGate(ActionSpec.of(group), 0.01)
    gate.start(np.zeros(1))
    for k in range(1, 4):  # 0.04, 0.08, 0.12 rad/s
        gate.check(Command(np.array([4e-4 * k * (k + 1) / 2])))
    with pytest.raises(RobotFault, match="g: x0 is accelerated beyond its limit"):
        gate.check(Command(np.array([2.4e-3 - 1e-3])))
