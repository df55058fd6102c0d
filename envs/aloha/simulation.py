"""Physics of two arms and the objects between them: MuJoCo on the models of gym-aloha.

gym-aloha steps through dm_control, and draws three cameras of 480 x 640 at every step. Here MuJoCo
is called in the order in which dm_control calls it, so that joints and rewards are the same to the
last bit (tests/envs/test_aloha_parity.py).
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from dipole.envs.aloha.joints import START, Floats, from_mujoco, to_mujoco, velocity_from_mujoco
from dipole.envs.aloha.tasks import AlohaTask, Judgement

STEP = 0.02  # seconds of an action
SUBSTEPS = 10


def load_model(scene: str) -> Any:
    """A model (mujoco.MjModel) of gym-aloha's. Raises ModuleNotFoundError without gym-aloha."""
    found = find_spec("gym_aloha")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("gym_aloha is not installed", name="gym_aloha")
    assets = Path(next(iter(found.submodule_search_locations))) / "assets"
    return mujoco.MjModel.from_xml_path(str(assets / scene))


class Simulation:
    """The state of one episode. model, data: MuJoCo's, to be read."""

    def __init__(self, task: AlohaTask) -> None:
        self.task = task
        self.model = load_model(task.scene)
        self.data = mujoco.MjData(self.model)
        self._parts = {part: number for number, part in enumerate(task.parts)}
        self._part = np.full(self.model.ngeom, -1)
        for part, names in task.parts.items():
            self._part[[self.model.geom(name).id for name in names]] = self._parts[part]

    def reset(self, objects: Floats) -> None:
        """Arms in their start posture, objects at poses [7 * objects], everything at rest."""
        mujoco.mj_resetData(self.model, self.data)
        self._forward()  # what the solver starts from is part of the state
        self.data.qpos[:16] = self.data.ctrl[:] = START
        self.data.qpos[16:] = objects
        self._forward()
        self._forward()

    def step(self, action: Floats) -> None:
        """Follow target joints [14] for 0.02 s."""
        self.data.ctrl[:] = to_mujoco(action)
        mujoco.mj_step2(self.model, self.data)
        mujoco.mj_step(self.model, self.data, SUBSTEPS - 1)
        mujoco.mj_step1(self.model, self.data)

    @property
    def state(self) -> Floats:
        """Joints [14]: radians, and normalised grippers."""
        return from_mujoco(self.data.qpos[:16])

    @property
    def velocity(self) -> Floats:
        """Joints' velocities [14]."""
        return velocity_from_mujoco(self.data.qvel[:16])

    @property
    def target(self) -> Floats:
        """The action [14] that is followed."""
        return from_mujoco(self.data.ctrl)

    @property
    def objects(self) -> Floats:
        """Poses of the objects, [7 * objects]: position in metres, unit quaternion (w, x, y, z)."""
        poses: Floats = self.data.qpos[16:].copy()
        return poses

    def judge(self) -> Judgement:
        """Reward and stages of the present contacts."""
        found = self._part[self.data.contact.geom[: self.data.ncon]]
        pairs = {(int(min(pair)), int(max(pair))) for pair in found}

        def touches(one: str, other: str) -> bool:
            a, b = sorted((self._parts[one], self._parts[other]))
            return (a, b) in pairs

        return self.task.judge(touches)

    def _forward(self) -> None:
        """As dm_control does after a reset: without the actuators."""
        kept = self.model.opt.disableflags
        self.model.opt.disableflags = kept | int(mujoco.mjtDisableBit.mjDSBL_ACTUATION)
        mujoco.mj_forward(self.model, self.data)
        self.model.opt.disableflags = kept


@cache
def cameras(scene: str) -> tuple[str, ...]:
    """Names of a model's cameras."""
    model = load_model(scene)
    return tuple(model.camera(i).name for i in range(model.ncam))
