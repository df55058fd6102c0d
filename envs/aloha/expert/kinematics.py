"""Inverse kinematics of the two arms, with MuJoCo's Jacobians.

Damped least squares (Nakamura and Hanafusa, 1986), joints weighted: what is damped is the way from
the present posture, so that of several solutions the nearest is taken.
"""

from typing import Any

import mujoco
import numpy as np

from dipole.envs.aloha.expert.pose import Pose, rotation_vector
from dipole.envs.aloha.joints import ARM, SIDES, Floats

PINCH = np.array([0.135, 0.0, 0.0])  # between the fingers' tips, in the frame of the gripper link
TURN_WEIGHT = 0.2  # metres that a radian counts as
DAMPING = 0.02
WILLING = np.array([1.0, 1.0, 1.0, 0.4, 1.0, 1.0])  # a roll is made by the wrist, not the forearm


class Kinematics:
    """Where the point between an arm's fingertips is, and which joints bring it somewhere.

    model: Of type mujoco.MjModel; it is only read. The frame of a pinch: x away from the arm,
    between the fingers, y from the right finger to the left one.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.data = mujoco.MjData(model)
        self._body = {s: model.body(f"vx300s_{s}/gripper_link").id for s in SIDES}
        joints = {s: [model.joint(f"vx300s_{s}/{name}").id for name in ARM] for s in SIDES}
        self._places = {s: model.jnt_qposadr[joints[s]] for s in SIDES}
        self._columns = {s: model.jnt_dofadr[joints[s]] for s in SIDES}
        self._low, self._high = model.jnt_range[joints["left"]].T
        self._gain = {s: model.actuator_gainprm[self._places[s], 0] for s in SIDES}

    def pose(self, side: str, joints: Floats) -> Pose:
        """The pinch of joints [6], in the world."""
        self.data.qpos[self._places[side]] = joints
        mujoco.mj_kinematics(self.model, self.data)
        rotation = self.data.xmat[self._body[side]].reshape(3, 3).copy()
        return Pose(self.data.xpos[self._body[side]] + rotation @ PINCH, rotation)

    def solve(self, side: str, target: Pose, start: Floats, iterations: int = 20) -> Floats:
        """Joints [6] whose pinch is at the target, or as near as limits allow."""
        joints: Floats = start.copy()
        for _ in range(iterations):
            error = self._error(self.pose(side, joints), target)
            if np.abs(error).max() < 1e-4:
                break
            jacobian = self._jacobian(side)
            weighted = jacobian * WILLING
            square = weighted @ jacobian.T + DAMPING**2 * np.eye(6)
            step = weighted.T @ np.linalg.solve(square, error)
            joints = np.clip(joints + step, self._low, self._high)
        return joints

    def sag(self, side: str, joints: Floats) -> Floats:
        """By how much gravity holds a position controller back at joints [6], radians."""
        self.pose(side, joints)
        mujoco.mj_comPos(self.model, self.data)
        force = np.zeros(self.model.nv)
        mujoco.mj_rne(self.model, self.data, 0, force)
        held: Floats = force[self._columns[side]] / self._gain[side]
        return held

    @staticmethod
    def _error(found: Pose, target: Pose) -> Floats:
        turn = rotation_vector(target.rotation @ found.rotation.T)
        return np.concatenate([target.position - found.position, TURN_WEIGHT * turn])

    def _jacobian(self, side: str) -> Floats:
        """Of the pinch, [6, 6], at the joints that were last looked at."""
        body = self._body[side]
        point = self.data.xpos[body] + self.data.xmat[body].reshape(3, 3) @ PINCH
        moves, turns = np.zeros((3, self.model.nv)), np.zeros((3, self.model.nv))
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_jac(self.model, self.data, moves, turns, point, body)
        columns = self._columns[side]
        return np.concatenate([moves[:, columns], TURN_WEIGHT * turns[:, columns]])
