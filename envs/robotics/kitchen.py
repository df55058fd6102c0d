"""Franka's kitchen: several subtasks in one episode, in gymnasium-robotics' own simulator."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium_robotics.envs.franka_kitchen.franka_env import DEFAULT_CAMERA_CONFIG
from gymnasium_robotics.envs.franka_kitchen.kitchen_env import OBS_ELEMENT_GOALS, KitchenEnv
from numpy.typing import NDArray

from dipole.envs.media.mujoco_views import free_camera
from dipole.envs.robotics.simulation import Observation, Simulation, check_steps, no_options

SLIDER = ("microwave", "kettle", "light switch", "slide cabinet")
BURNER = ("microwave", "kettle", "bottom burner", "light switch")
# The subtasks of each task, by the names of D4RL's datasets; relay: all, of which each
# demonstration of Gupta et al. (2019) does four.
SUBTASKS = {
    "complete": SLIDER,
    "partial": SLIDER,
    "mixed": BURNER,
    "relay": tuple(OBS_ELEMENT_GOALS),
}
ENOUGH = 4  # subtasks of an episode that is a success


class Kitchen(Simulation):
    """An arm with two fingers that opens, moves and switches on what is asked for.

    task: "complete", "partial" or "mixed", of four subtasks, or "relay", of seven.
    observation: Any of "state" [59] float64 (joints, objects and their velocities, with noise),
        pictures "scene" (from above, the whole kitchen), "left_cap" and "right_cap", which are the
        model's own, uint8 [image_size, image_size, 3], and each with "_depth" float32
        [image_size, image_size, 1] metres.
    max_steps: Steps after which an episode is truncated.
    end_at_success: Whether an episode ends when every subtask is done. As published, it does.
    image_size, render_size: Width and height of the cameras' pictures and of `render`'s, pixels.

    Action [9], -1 to 1: velocities of the joints and fingers. 12.5 steps a second.
    Reward: how many subtasks this step has completed, so that the return is their number.
    Info: "is_success" (four are completed), "task", "subtasks" (those completed so far),
    "successes": each subtask by its name, and "1_of_4" to "4_of_4", at least so many.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 12.5}  # noqa: RUF012

    def __init__(
        self,
        task: str,
        observation: Sequence[str] = ("state",),
        *,
        max_steps: int = 280,
        end_at_success: bool = True,
        image_size: int = 96,
        render_size: int = 256,
    ) -> None:
        check_steps("kitchen", max_steps)
        simulator = KitchenEnv(list(SUBTASKS[task]), terminate_on_tasks_completed=end_at_success)
        self.task, self.max_steps = task, max_steps
        self._steps, self._seen = 0, np.zeros(59)
        scene = free_camera(DEFAULT_CAMERA_CONFIG)
        cameras = {"scene": scene, "left_cap": "left_cap", "right_cap": "right_cap"}
        super().__init__(
            "kitchen", simulator, {"state": 59}, cameras, observation, image_size, render_size
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The seed's own noise. Raises ConfigError for options: there are none."""
        no_options("kitchen", options)
        super().reset(seed=seed)
        seen, _ = self.simulator.reset(seed=seed)
        self._steps, self._seen = 0, seen["observation"]
        return self.observe(), self._info()

    def advance(self, action: NDArray[np.float32]) -> tuple[float, bool, bool, dict[str, Any]]:
        """`step` for 0.08 s without drawing: (reward, terminated, truncated, info)."""
        seen, reward, terminated, _, _ = self.simulator.step(self._command(action))
        self._steps, self._seen = self._steps + 1, seen["observation"]
        return float(reward), bool(terminated), self._steps >= self.max_steps, self._info()

    @property
    def dt(self) -> float:
        """Seconds of a step."""
        return float(self.simulator.robot_env.dt)

    def _numbers(self) -> Observation:
        # As it was seen in the step: another look would draw other noise, and the arm's commands
        # go out from the joints that were seen.
        return {"state": self._seen}

    def _info(self) -> dict[str, Any]:
        done = list(self.simulator.episode_task_completions)
        counts = {f"{n}_of_{ENOUGH}": len(done) >= n for n in range(1, ENOUGH + 1)}
        each = {name: name in done for name in SUBTASKS[self.task]}
        return {
            "is_success": len(done) >= ENOUGH,
            "task": self.task,
            "subtasks": done,
            "successes": counts | each,
        }
