"""Groups of actions with their limits, and command filters for them."""

import numpy as np
from scipy.spatial.transform import Rotation

from dipole.deploy import ActionGroup, ActionSpec, Limits
from dipole.deploy.safety.command_filter import CommandFilter

DT = 0.1
LIMITS = Limits(low=(-10.0,), high=(10.0,), velocity=(5.0,), acceleration=(10.0,))


def group_of(n=1, limits=LIMITS, kind="joint_position", **options):
    names = tuple(f"x{i}" for i in range(n))
    given = {"measured_by": "x"} if kind != "discrete" else {}
    return ActionGroup("g", kind, names, **given | options, limits=limits)


def filter_of(group, start, dt=DT):
    command_filter = CommandFilter(ActionSpec.of(group), dt)
    command_filter.reset(np.array(start, np.float64))
    return command_filter


TURNING = Limits((-1.0,) * 7, (1.0,) * 7, (1.0,) * 7, (2.0,) * 7)
POSE = ActionGroup("tool", "pose", ("x", "y", "z", "qx", "qy", "qz", "qw"), "m",
                   measured_by="tool", rotation="quaternion_xyzw", limits=TURNING)  # fmt: skip


def turned(degrees, sign=1.0):
    q = Rotation.from_euler("z", degrees, degrees=True).as_quat()
    return np.array([0.0, 0, 0, *(sign * q)])
