"""Fetch's four tasks as gymnasium environments: what happens is what happens in gymnasium-robotics.

The simulator is gymnasium-robotics' own; tests hold this to `gymnasium.make("FetchPush-v4")`, to
the last bit. What is saved is an observation that nobody looks at, and the time to draw one.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium_robotics.envs.fetch.pick_and_place import MujocoFetchPickAndPlaceEnv
from gymnasium_robotics.envs.fetch.push import MujocoFetchPushEnv
from gymnasium_robotics.envs.fetch.reach import MujocoFetchReachEnv
from gymnasium_robotics.envs.fetch.slide import MujocoFetchSlideEnv
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.data.store.metadata import DELTA
from dipole.envs.fetch.geometry import ABSOLUTE, ACTIONS, METRES_PER_ACTION, REACHED
from dipole.envs.media.mujoco_views import free_camera
from dipole.envs.robotics.simulation import Floats, Observation, Simulation, check_steps

SIMULATORS = {
    "reach": MujocoFetchReachEnv,
    "push": MujocoFetchPushEnv,
    "pick-and-place": MujocoFetchPickAndPlaceEnv,
    "slide": MujocoFetchSlideEnv,
}
NUMBERS = ("state", "achieved_goal", "desired_goal", "goal_offset")
CAMERAS = ("external_camera_0", "gripper_camera_rgb", "head_camera_rgb")
# Where `render` looks from: nearer than gymnasium-robotics' own.
SCENE = {"distance": 1.8, "azimuth": 132.0, "elevation": -20.0, "lookat": (1.3, 0.75, 0.5)}
REWARDS = ("sparse", "dense")
NEAR = 0.05  # metres from the goal at which it is reached, as published


class Fetch(Simulation):
    """One of Fetch's tasks, version 4.

    task: "reach", "push", "pick-and-place" or "slide".
    observation: Any of "state" [25] (reach: [10]; metres and radians, velocities in metres and
        radians a step), "achieved_goal" [3] (where the object is, for reach the gripper),
        "desired_goal" [3] and "goal_offset" [3] (from the one to the other), float64 metres;
        pictures "scene" (from the side, as in videos), "external_camera_0" (from the front),
        "gripper_camera_rgb", "head_camera_rgb", which are the model's own, uint8 [image_size,
        image_size, 3], and each with "_depth" float32 [image_size, image_size, 1] metres.
    max_steps: Steps after which an episode is truncated.
    actions: "delta" or "absolute".
    reward: "sparse" (0 at the goal, else -1) or "dense" (minus the distance, metres).
    end_at_success: Whether an episode ends at the goal. As published, it goes on.
    image_size, render_size: Width and height of the cameras' pictures and of `render`'s, pixels.

    Action [4]: "delta", where the gripper moves from where it is (x, y, z, -1 to 1; 1 is 33 mm a
    step, 0.83 m/s), or "absolute", where it goes (metres, as in "state"; 33 mm a step at most); and
    whether the fingers open (1) or close (-1), which only pick-and-place obeys. 25 steps a second.
    Info: "is_success" (within 5 cm of the goal now), "task", "distance" (metres), "successes":
    "any_step" (so far) and "last_step" (at the end of the episode; False before).

    >>> env = Fetch("push")
    >>> observation, info = env.reset(seed=0)
    >>> observation["state"].shape, info["task"]
    ((25,), 'push')
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}  # noqa: RUF012

    def __init__(
        self,
        task: str,
        observation: Sequence[str] = NUMBERS,
        *,
        max_steps: int = 50,
        actions: str = DELTA,
        reward: str = "sparse",
        end_at_success: bool = False,
        image_size: int = 96,
        render_size: int = 256,
    ) -> None:
        if reward not in REWARDS:
            raise ConfigError(f"fetch's reward is {reward!r}. Known: {', '.join(REWARDS)}")
        if actions not in ACTIONS:
            raise ConfigError(f"fetch's actions are {actions!r}. Known: {', '.join(ACTIONS)}")
        check_steps("fetch", max_steps)
        simulator = SIMULATORS[task](reward_type=reward)
        self.task, self.max_steps, self.end_at_success = task, max_steps, end_at_success
        self.actions = actions
        self._steps, self._succeeded, self._fingers = 0, False, 0.0
        site = "object0" if simulator.has_object else "robot0:grip"
        self._achieved_site = simulator.model.site(site).id
        self._gripper_site = simulator.model.site("robot0:grip").id
        self._goal_site = simulator.model.site("target0").id
        stock: Any = simulator.observation_space
        numbers = {**dict.fromkeys(NUMBERS, 3), "state": stock["observation"].shape[0]}
        cameras = {"scene": free_camera(SCENE), **{name: name for name in CAMERAS}}
        super().__init__("fetch", simulator, numbers, cameras, observation, image_size, render_size)
        if actions == ABSOLUTE:
            low, high = (np.array([*bound, end], np.float32) for bound, end in REACHED)
            self.action_space = spaces.Box(low, high, dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The seed's own start and goal, or options["goal"] [3], metres.

        Raises ConfigError for another option.
        """
        super().reset(seed=seed)
        goal = _goal(options or {})
        self.simulator.reset(seed=seed)
        if goal is not None:
            self.simulator.goal = goal
        self._steps, self._succeeded, self._fingers = 0, False, 0.0
        self._show_goal()
        return self.observe(), self._info(over=False)

    def advance(self, action: NDArray[np.float32]) -> tuple[float, bool, bool, dict[str, Any]]:
        """`step` for 0.04 s without looking: (reward, terminated, truncated, info)."""
        command = self._command(action)
        self._fingers = float(command[3])
        self._move(self._moves(command))
        self._steps += 1
        reached = self.distance < NEAR
        self._succeeded |= reached
        terminated = self.end_at_success and reached
        truncated = self._steps >= self.max_steps
        info = self._info(terminated or truncated)
        return self._reward(), terminated, truncated, info

    def render(self) -> NDArray[np.uint8]:
        """The scene [render_size, render_size, 3], the goal a red ball in it."""
        self._show_goal()
        return super().render()

    def hold_action(self) -> NDArray[np.float32]:
        """The action [4] that keeps the gripper where it is, and its fingers as they were told."""
        held = self._gripper if self.actions == ABSOLUTE else np.zeros(3)
        return np.array([*held, self._fingers], np.float32)

    def foresee(self, actions: NDArray[Any]) -> Floats:
        """The "state" after moves [N, 4], -1 to 1, that are not made: for experts that plan."""
        simulator, present = self.simulator, self.simulator.data
        simulator.data = copy(present)
        try:
            for action in actions:
                self._move(np.clip(action, -1.0, 1.0).astype(np.float32))
            state: Floats = simulator._get_obs()["observation"]
        finally:
            simulator.data = present
        return state

    @property
    def distance(self) -> float:
        """How far what is moved is from its goal, metres."""
        return float(np.linalg.norm(self._achieved - self.simulator.goal))

    @property
    def dt(self) -> float:
        """Seconds of a step."""
        return float(self.simulator.dt)

    def _moves(self, command: NDArray[np.float32]) -> NDArray[np.float32]:
        """A command as gymnasium-robotics takes it, -1 to 1."""
        if self.actions == DELTA:
            return command
        way = np.clip((command[:3] - self._gripper) / METRES_PER_ACTION, -1.0, 1.0)
        return np.append(way, command[3]).astype(np.float32)

    def _move(self, command: NDArray[np.float32]) -> None:
        """The part of gymnasium-robotics' own `step` that moves something."""
        self.simulator._set_action(command)
        self.simulator._mujoco_step(command)
        self.simulator._step_callback()

    @property
    def _gripper(self) -> Floats:
        place: Floats = self.simulator.data.site_xpos[self._gripper_site]
        return place

    @property
    def _achieved(self) -> Floats:
        place: Floats = self.simulator.data.site_xpos[self._achieved_site]
        return place

    def _reward(self) -> float:
        goal = self.simulator.goal
        return float(self.simulator.compute_reward(self._achieved, goal, {}))

    def _info(self, over: bool) -> dict[str, Any]:
        distance = self.distance
        reached = distance < NEAR
        successes = {"any_step": self._succeeded, "last_step": over and reached}
        return {
            "is_success": reached,
            "task": self.task,
            "distance": distance,
            "successes": successes,
        }

    def _show_goal(self) -> None:
        """Put the ball at the goal, which changes nothing that is simulated."""
        model, data = self.simulator.model, self.simulator.data
        goal, site = self.simulator.goal, self._goal_site
        model.site_pos[site] = goal - data.xpos[model.site_bodyid[site]]  # for the steps to come
        data.site_xpos[site] = goal

    def _numbers(self) -> Observation:
        seen = self.simulator._get_obs()
        offset = seen["desired_goal"] - seen["achieved_goal"]
        return {"state": seen.pop("observation"), **seen, "goal_offset": offset}


def _goal(options: dict[str, Any]) -> Floats | None:
    """The goal that a reset asks for. Raises ConfigError for what is none."""
    unknown = sorted(set(options) - {"goal"})
    if unknown:
        raise ConfigError(f"fetch has no reset option {unknown[0]!r}: only 'goal', three numbers")
    if "goal" not in options:
        return None
    try:
        goal = np.array(options["goal"], np.float64)
    except (TypeError, ValueError):
        goal = np.empty(0)
    if goal.shape != (3,) or not np.isfinite(goal).all():
        raise ConfigError(f"fetch's goal is {options['goal']!r}: three finite numbers, metres")
    return goal
