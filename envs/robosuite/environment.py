"""Robosuite's tasks as gymnasium environments: this file is run where robosuite is installed.

It needs robosuite, mujoco, gymnasium and numpy there, and nothing of dipole (docs/interpreter.md).
"""

from __future__ import annotations

from typing import Any, Sequence  # noqa: UP035  Python 3.8

import gymnasium
import mujoco
import numpy as np
import robosuite
from gymnasium import spaces
from robosuite.controllers import load_composite_controller_config

DISTRIBUTIONS = ("robosuite", "mujoco")
# {task: robosuite's name, arms, time limit in steps as robomimic's studies have it}
TASKS = {
    "lift": ("Lift", 1, 400),
    "can": ("PickPlaceCan", 1, 400),
    "milk": ("PickPlaceMilk", 1, 400),
    "square": ("NutAssemblySquare", 1, 400),
    "round": ("NutAssemblyRound", 1, 400),
    "stack": ("Stack", 1, 400),
    "door": ("Door", 1, 500),
    "tool_hang": ("ToolHang", 1, 700),
    "transport": ("TwoArmTransport", 2, 700),
}
ACTIONS = ("delta", "absolute")
CONTROL_HZ = 20
PROPRIOCEPTION = ("eef_pos", "eef_quat", "gripper_qpos")  # of each arm in the entry `state`
COSTLY = [int(mujoco.mjtRndFlag.mjRND_SHADOW), int(mujoco.mjtRndFlag.mjRND_REFLECTION)]
MODEL_SEED = 0  # of what a model draws when it is made: the edges of lift's cube


def make(
    task: str, observation: Sequence[str] | None, max_steps: int | None = None, **options: Any
) -> Robosuite:
    """What `server.py` calls: an environment of a task, with the entries that are looked at."""
    entries = ("state",) if observation is None else observation
    return Robosuite(task, entries, max_steps=max_steps, **options)


class Robosuite(gymnasium.Env[Any, Any]):
    """One of TASKS with Panda arms, at 20 Hz.

    observation: "state" [9 per arm + object], that is for each arm eef_pos [3] (metres, world),
        eef_quat [4] (x, y, z, w) and gripper_qpos [2] (metres), then "object"; "object", all that
        robosuite says of objects; any of robosuite's own, such as "robot0_eef_pos" or "cube_pos";
        "states", time and MuJoCo's qpos and qvel, float64; a camera's name, uint8
        [image_size, image_size, 3]; "<camera>_depth", float32 [image_size, image_size, 1], metres.
        Vectors are float32.
    actions: "delta": moves of each hand, 1 is 5 cm or 0.5 rad, in the frame of its base.
        "absolute": its pose, metres and a rotation vector, in the frame of the world. Then for each
        hand its gripper: -1 opens, 1 shuts.
    image_size: Of cameras, pixels. render_camera, render_size: Of `render`'s picture.
    max_steps: Steps after which an episode is truncated; None: the task's.
    end_at_success: Whether an episode ends when the task is solved.
    reward_shaping: Robosuite's dense reward instead of 1 on success.
    hard_reset: Whether each episode makes its model anew, which takes a second.

    `reset(options={"states": vector})` continues from a stored state. Info: "is_success".
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": CONTROL_HZ}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(
        self,
        task: str,
        observation: Sequence[str] = ("state",),
        actions: str = "delta",
        image_size: int = 84,
        render_camera: str = "agentview",
        render_size: int = 256,
        max_steps: int | None = None,
        end_at_success: bool = True,
        reward_shaping: bool = False,
        hard_reset: bool = False,
    ) -> None:
        if actions not in ACTIONS:
            raise ValueError(f"actions is {actions!r}: it is one of {', '.join(ACTIONS)}")
        for name, size in (("image_size", image_size), ("render_size", render_size)):
            if size < 1:
                raise ValueError(f"{name} is {size}: it is at least 1")
        name, self.arms, limit = TASKS[task]
        self.max_steps = limit if max_steps is None else max_steps
        self.actions, self.end_at_success = actions, end_at_success
        self.image_size, self.render_camera = image_size, render_camera
        self.render_size = render_size
        self.environment = _made(name, self.arms, actions, reward_shaping, hard_reset)
        self._renderers: dict[int, Renderer] = {}
        self._seen: dict[str, Any] = {}
        self._steps = 0
        self._grip = np.full(self.arms, -1.0)
        self.observation = tuple(observation)
        # Functions that robosuite compiles when they are first called are compiled now.
        self.environment.step(np.zeros(self.environment.action_dim))
        self.reset(seed=0)
        for entry in self.observation:
            self._check(entry)
        first = self.observe()
        self.observation_space = spaces.Dict({key: _space(each) for key, each in first.items()})
        self.action_space = self._actions()

    @property
    def dt(self) -> float:
        """Seconds of a step."""
        return 1.0 / CONTROL_HZ

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The seed's own start; or a stored state, time and qpos and qvel, options={"states": ...}.

        Raises ValueError for other options, and for a state of another length.
        """
        others = set(options or {}) - {"states"}
        if others:
            raise ValueError(f"robosuite has no reset options {', '.join(sorted(others))}")
        environment = self.environment
        if seed is not None:  # robosuite's parts hold this very generator
            environment.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        environment.reset()
        if environment.hard_reset:
            self._close_renderers()
        if options and "states" in options:
            self._set(np.asarray(options["states"], np.float64))
        self._steps, self._grip = 0, np.full(self.arms, -1.0)
        self._look()
        self._look()  # what is relative to the hand is computed from the look before
        return self.observe(), self._info()

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Raises ValueError for an action that is not finite, or of another length."""
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: Any) -> tuple[float, bool, bool, dict[str, Any]]:
        """A step without drawing its cameras."""
        wanted = np.asarray(action, np.float64).reshape(-1)
        if wanted.shape != (7 * self.arms,) or not np.isfinite(wanted).all():
            raise ValueError(f"an action is {7 * self.arms} finite numbers; got {action!r}")
        self._grip = wanted.reshape(self.arms, 7)[:, 6]
        _, reward, _, _ = self.environment.step(wanted)
        self._steps += 1
        self._look()
        info = self._info()
        over = self.end_at_success and info["is_success"]
        return float(reward), over, self._steps >= self.max_steps, info

    def observe(self) -> dict[str, Any]:
        """The entries that are looked at, of the present state."""
        return {name: self._entry(name) for name in self.observation}

    def render(self) -> Any:
        """What the render camera sees: uint8 [render_size, render_size, 3]."""
        return self._renderer(self.render_size).picture(self._data, self.render_camera)

    def hold_action(self) -> Any:
        """What keeps the hands where they are, and their grippers as they were told."""
        held = np.zeros((self.arms, 7))
        held[:, 6] = self._grip
        if self.actions == "absolute":
            for arm in range(self.arms):
                controller = self._controller(arm)
                held[arm, :3] = controller.ref_pos
                held[arm, 3:6] = _rotation_vector(controller.ref_ori_mat)
        return held.reshape(-1).astype(np.float32)

    def close(self) -> None:
        self._close_renderers()
        self.environment.close()

    @property
    def data(self) -> Any:
        """MuJoCo's, whose warnings say that the state is not finite."""
        return self._data

    @property
    def _model(self) -> Any:
        return self.environment.sim.model._model

    @property
    def _data(self) -> Any:
        return self.environment.sim.data._data

    def _set(self, states: Any) -> None:
        needed = 1 + self._model.nq + self._model.nv
        if states.shape != (needed,):
            raise ValueError(f"states has shape {states.shape}: ({needed},) is needed")
        sim = self.environment.sim
        sim.set_state_from_flattened(states)
        sim.forward()
        for arm, robot in enumerate(self.environment.robots):  # the posture that redundancy keeps
            joints = sim.data.qpos[robot._ref_joint_pos_indexes]
            self._controller(arm).update_initial_joints(joints)

    def _look(self) -> None:
        self._seen = self.environment._get_observations(force_update=True)

    def _info(self) -> dict[str, Any]:
        return {"is_success": bool(self.environment._check_success())}

    def _entry(self, name: str) -> Any:
        if name == "states":
            return np.asarray(self.environment.sim.get_state().flatten(), np.float64)
        if name == "state":
            arms = [f"robot{arm}_{each}" for arm in range(self.arms) for each in PROPRIOCEPTION]
            parts = [*(self._seen[each] for each in arms), self._seen["object-state"]]
            return np.concatenate(parts).astype(np.float32)
        if name == "object":
            return np.asarray(self._seen["object-state"], np.float32)
        if name in self._seen:
            return np.atleast_1d(np.asarray(self._seen[name], np.float32))
        renderer = self._renderer(self.image_size)
        if name in self._cameras:
            return renderer.picture(self._data, name)
        return renderer.depth(self._data, name[: -len("_depth")])

    def _check(self, name: str) -> None:
        depths = [f"{camera}_depth" for camera in self._cameras]
        known = ["state", "object", "states", *self._seen, *self._cameras, *depths]
        if name not in known:
            raise ValueError(f"robosuite has no observation {name!r}. Known: {', '.join(known)}")

    @property
    def _cameras(self) -> tuple[str, ...]:
        return tuple(self.environment.sim.model.camera_names)

    def _renderer(self, size: int) -> Renderer:
        if size not in self._renderers:
            self._renderers[size] = Renderer(self._model, size)
        return self._renderers[size]

    def _close_renderers(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _controller(self, arm: int) -> Any:
        parts = self.environment.robots[arm].composite_controller.part_controllers
        return parts["right"]

    def _actions(self) -> Any:
        low, high = np.full(7, -1.0), np.full(7, 1.0)
        if self.actions == "absolute":
            low[:6], high[:6] = -np.inf, np.inf
        low, high = (np.tile(each, self.arms).astype(np.float32) for each in (low, high))
        return spaces.Box(low, high, dtype=np.float32)


class Renderer:
    """Draws a model's cameras in one size, without what takes most of the time of a small picture:
    shadows, reflections and multisampling."""

    def __init__(self, model: Any, size: int) -> None:
        buffer, quality = model.vis.global_, model.vis.quality
        buffer.offheight = buffer.offwidth = max(size, buffer.offheight)
        quality.offsamples = quality.shadowsize = 0
        self._renderer = mujoco.Renderer(model, size, size)
        self._looks = mujoco.MjvOption()
        self._looks.geomgroup[0] = 0  # what collides: robosuite draws group 1 over it
        self._looks.sitegroup[:] = 0  # its marks of where hands point

    def picture(self, data: Any, camera: str) -> Any:
        self._renderer.disable_depth_rendering()
        return self._drawn(data, camera)

    def depth(self, data: Any, camera: str) -> Any:
        """Metres from the camera's plane, [size, size, 1]."""
        self._renderer.enable_depth_rendering()
        return self._drawn(data, camera)[..., None]

    def close(self) -> None:
        self._renderer.close()

    def _drawn(self, data: Any, camera: str) -> Any:
        self._renderer.update_scene(data, camera, self._looks)
        self._renderer.scene.flags[COSTLY] = 0
        return self._renderer.render()


def _made(name: str, arms: int, actions: str, reward_shaping: bool, hard_reset: bool) -> Any:
    """Robosuite's environment; it draws nothing itself."""
    controllers = load_composite_controller_config(controller="BASIC", robot="Panda")
    if actions == "absolute":
        for arm in controllers["body_parts"].values():
            arm.update(input_type="absolute", input_ref_frame="world")
    return robosuite.make(
        name,
        robots=["Panda"] * arms,
        controller_configs=[controllers] * arms,
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        use_object_obs=True,
        renderer="mujoco",
        control_freq=CONTROL_HZ,
        ignore_done=True,
        reward_shaping=reward_shaping,
        hard_reset=hard_reset,
        seed=MODEL_SEED,
    )


def _space(value: Any) -> Any:
    if value.dtype == np.uint8:
        return spaces.Box(0, 255, value.shape, np.uint8)
    return spaces.Box(-np.inf, np.inf, value.shape, value.dtype)


def _rotation_vector(matrix: Any) -> Any:
    quaternion, vector = np.zeros(4), np.zeros(3)
    mujoco.mju_mat2Quat(quaternion, np.asarray(matrix, np.float64).reshape(-1))
    mujoco.mju_quat2Vel(vector, quaternion, 1.0)
    return vector
