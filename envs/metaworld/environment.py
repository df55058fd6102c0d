"""MetaWorld as a gymnasium environment: a task, or a set of tasks of which a seed chooses one."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.envs.media.mujoco_views import DEPTH
from dipole.envs.metaworld.simulator import SIMULATORS, TaskSimulator
from dipole.envs.metaworld.tasks import CAMERAS, SETS, TASKS, chosen_tasks

STATE_SIZE = 39
OPEN = -1.0  # the gripper's action

Observation = dict[str, Any]


class MetaWorld(gymnasium.Env[Observation, NDArray[np.float32]]):
    """A Sawyer arm at a table, moved by differences of its hand's position, at 80 Hz.

    task: One of TASKS, or a set, "mt10" or "mt50": an episode of seed s then does task s % n, and
        is the episode that this task alone has with seed s.
    only: Some tasks of the set: seed s does only[s % len(only)], and "task" stays that of the set.
        None: all of them.
    observation: Any of "state" [39] float32 (hand, gripper, objects, all of these one step before,
        goal), "task" [n] float32 (one-hot, in a set), "instruction" (words), a camera's name (uint8
        [image_size, image_size, 3]) and "CAMERA_depth" (float32 [image_size, image_size, 1],
        metres). None: state, and in a set task.
    image_size, render_size: Of the observed pictures and of `render`'s, pixels.
    render_camera: Whose picture `render` shows.
    max_steps: Steps after which an episode is truncated.
    end_at_success: Whether an episode ends when it succeeds, or goes on to max_steps as published.
    steps_after_success: So many steps later it ends, where it ends at success.

    Action: [4] in [-1, 1], clipped: hand x, y, z in centimetres a step, gripper -1 open to 1 shut.
    Reward: MetaWorld's, 0 to 10 a step. Info: "is_success" (of this step), "task" (its name).

    >>> env = MetaWorld("reach")
    >>> observation, info = env.reset(seed=0)
    >>> observation["state"].shape, info["task"]
    ((39,), 'reach')
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 80}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(
        self,
        task: str,
        observation: Sequence[str] | None = None,
        *,
        only: Sequence[str] | None = None,
        image_size: int = 96,
        render_size: int = 256,
        render_camera: str = "corner2",
        max_steps: int = 500,
        end_at_success: bool = True,
        steps_after_success: int = 0,
    ) -> None:
        self.tasks = chosen_tasks(task, only)  # of its episodes, in turn
        self._places = SETS.get(task, (task,))  # in the one-hot vector
        default = ("state", "task") if task in SETS else ("state",)
        self.observation = default if observation is None else tuple(observation)
        if min(image_size, render_size, max_steps, steps_after_success + 1) < 1:
            raise ConfigError(
                f"image_size {image_size}, render_size {render_size}, max_steps {max_steps}: at "
                f"least 1; steps_after_success {steps_after_success}: at least 0"
            )
        _check_known("camera", render_camera, CAMERAS)
        self.image_size, self.render_size = image_size, render_size
        self.render_camera, self.max_steps = render_camera, max_steps
        self.end_at_success, self.steps_after_success = end_at_success, steps_after_success
        self._known = (*default, "instruction", *CAMERAS, *(name + DEPTH for name in CAMERAS))
        looks = {name: self._space(name) for name in self.observation}
        self.observation_space = spaces.Dict(looks)
        self.action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
        self._simulator: TaskSimulator | None = None
        self._state = np.zeros(STATE_SIZE, np.float32)
        self._gripper, self._steps = OPEN, 0
        self._solved_at: int | None = None  # the first step that succeeded

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The seed's own task, objects and goal. Raises ConfigError for options: there are none."""
        if options:
            given = ", ".join(map(repr, options))
            raise ConfigError(f"metaworld has no reset options, got {given}")
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**31)) if seed is None else seed
        self.close()
        self._simulator = SIMULATORS.borrow(self.tasks[drawn % len(self.tasks)])
        self._state = self._simulator.reset(drawn)
        self._gripper, self._steps, self._solved_at = OPEN, 0, None
        return self.observe(), self._info(success=False)

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Move; see the class."""
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: NDArray[np.float32]) -> tuple[float, bool, bool, dict[str, Any]]:
        """Move without looking. Raises ValueError for what is not four finite numbers."""
        asked = np.asarray(action, np.float32)
        if asked.shape != (4,) or not np.isfinite(asked).all():
            raise ValueError(
                f"an action is four finite numbers, x, y, z and the gripper's; got {action!r}"
            )
        asked = np.clip(asked, -1.0, 1.0)
        self._state, reward, success = self.simulator.step(asked)
        self._gripper = float(asked[3])
        self._steps += 1
        if success and self._solved_at is None:
            self._solved_at = self._steps
        terminated = self.end_at_success and self._solved_for >= self.steps_after_success
        return reward, terminated, self._steps >= self.max_steps, self._info(success)

    def observe(self) -> Observation:
        """The entries that are looked at, of the present state."""
        return {name: self._look(name) for name in self.observation}

    def render(self) -> NDArray[np.uint8]:
        """The scene [render_size, render_size, 3]."""
        return self.simulator.picture(self.render_camera, self.render_size)

    def hold_action(self) -> NDArray[np.float32]:
        """What keeps the hand where it is, and the gripper as it was told last."""
        return np.array([0.0, 0.0, 0.0, self._gripper], np.float32)

    def close(self) -> None:
        """Give the simulator to whoever needs one."""
        if self._simulator is not None:
            if self.render_size != self.image_size:  # few episodes are filmed
                self._simulator.forget_renderer(self.render_size)
            SIMULATORS.give_back(self._simulator)
        self._simulator = None

    @property
    def data(self) -> Any:
        """MuJoCo's, whose warnings say that the state is not finite; None outside of episodes."""
        return self._simulator and self._simulator.sawyer.data

    @property
    def simulator(self) -> TaskSimulator:
        """Of the episode. Raises ConfigError before the first one."""
        if self._simulator is None:
            raise ConfigError("this environment is in no episode: call reset first")
        return self._simulator

    @property
    def _solved_for(self) -> int:
        """Steps since the first that succeeded; -1 before it."""
        return -1 if self._solved_at is None else self._steps - self._solved_at

    def _info(self, success: bool) -> dict[str, Any]:
        return {"is_success": success, "task": self.simulator.name}

    def _look(self, name: str) -> Any:
        simulator = self.simulator
        if name == "state":
            return self._state.copy()
        if name == "task":
            return np.array([each == simulator.name for each in self._places], np.float32)
        if name == "instruction":
            return TASKS[simulator.name]
        if name.endswith(DEPTH):
            return simulator.depth(name.removesuffix(DEPTH), self.image_size)
        return simulator.picture(name, self.image_size)

    def _space(self, name: str) -> "spaces.Space[Any]":
        if name == "task" and name not in self._known:
            raise ConfigError(
                "metaworld has no observation 'task' in a task alone: it is a set's. A policy of a "
                "set does one of its tasks by environment=metaworld/mt10 (its set) and "
                f"environment.options.only=[{self.tasks[0]}]"
            )
        _check_known("observation", name, self._known)
        size = self.image_size
        if name == "instruction":
            return spaces.Text(max(map(len, TASKS.values())), charset=_letters())
        if name.endswith(DEPTH):
            return spaces.Box(0.0, np.inf, (size, size, 1), np.float32)
        if name in CAMERAS:
            return spaces.Box(0, 255, (size, size, 3), np.uint8)
        if name == "task":
            return spaces.Box(0.0, 1.0, (len(self._places),), np.float32)
        return spaces.Box(-np.inf, np.inf, (STATE_SIZE,), np.float32)


def _letters() -> str:
    return "".join(sorted(set("".join(TASKS.values()))))


def _check_known(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ConfigError(
            f"metaworld has no {what} {name!r}{nearest(name, known) or '.'} "
            f"Known: {', '.join(known)}"
        )
