"""Adroit's four tasks of a hand, in gymnasium-robotics' own simulators, version 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium_robotics.envs.adroit_hand.adroit_door import AdroitHandDoorEnv
from gymnasium_robotics.envs.adroit_hand.adroit_hammer import AdroitHandHammerEnv
from gymnasium_robotics.envs.adroit_hand.adroit_pen import AdroitHandPenEnv
from gymnasium_robotics.envs.adroit_hand.adroit_relocate import AdroitHandRelocateEnv
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.envs.robotics.simulation import Observation, Simulation, check_steps, no_options

SIMULATORS = {
    "door": AdroitHandDoorEnv,
    "hammer": AdroitHandHammerEnv,
    "pen": AdroitHandPenEnv,
    "relocate": AdroitHandRelocateEnv,
}
CAMERAS = {"fixed": "fixed", "vil_camera": "vil_camera"}
FAR = {"vil_camera": "vil_camera", "fixed": "fixed"}  # first where "fixed" may not see the goal
# An episode is solved, for Rajeswaran et al. (2018), in whose goal the hand is for more steps.
HELD = {"door": 25, "hammer": 25, "pen": 20, "relocate": 25}


class Adroit(Simulation):
    """One of Adroit's tasks.

    task: "door", "hammer", "pen" or "relocate".
    observation: Any of "state" (door [39], hammer [46], pen [45], relocate [39], float64), pictures
        "fixed" and "vil_camera" uint8 [image_size, image_size, 3], and each with "_depth" float32
        [image_size, image_size, 1] metres.
    max_steps: Steps after which an episode is truncated.
    reward: "dense" or "sparse", as gymnasium-robotics has them.
    end_at_success: Whether an episode ends with success. As published, it goes on.
    image_size, render_size: Width and height of the cameras' pictures and of `render`'s, pixels.

    Action: a target of each joint, -1 to 1 over its range: door [28], hammer [26], pen [24],
    relocate [30]. 100 steps a second.
    Info: "is_success" (the goal was reached for more than 25 steps so far, pen: 20, as published),
    "task", "successes": the goal was reached at "any_step" so far, and at the "last_step".
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 100}  # noqa: RUF012

    def __init__(
        self,
        task: str,
        observation: Sequence[str] = ("state",),
        *,
        max_steps: int = 200,
        reward: str = "dense",
        end_at_success: bool = False,
        image_size: int = 96,
        render_size: int = 256,
    ) -> None:
        check_steps("adroit", max_steps)
        if reward not in ("dense", "sparse"):
            raise ConfigError(f"adroit's reward is {reward!r}. Known: dense, sparse")
        simulator = SIMULATORS[task](reward_type=reward)
        self.task, self.max_steps, self.end_at_success = task, max_steps, end_at_success
        self._steps = self._reached = 0
        numbers = {"state": simulator.observation_space.shape[0]}
        cameras = FAR if task == "relocate" else CAMERAS
        super().__init__(
            "adroit", simulator, numbers, cameras, observation, image_size, render_size
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The seed's own start and goal. Raises ConfigError for options: there are none."""
        no_options("adroit", options)
        super().reset(seed=seed)
        self.simulator.reset(seed=seed)
        self._steps = self._reached = 0
        return self.observe(), self._info(reached=False, over=False)

    def advance(self, action: NDArray[np.float32]) -> tuple[float, bool, bool, dict[str, Any]]:
        """`step` for 0.01 s without looking: (reward, terminated, truncated, info)."""
        _, reward, _, _, info = self.simulator.step(self._command(action))
        reached = bool(np.any(info["success"]))
        self._steps, self._reached = self._steps + 1, self._reached + reached
        terminated, truncated = self.end_at_success and self._held, self._steps >= self.max_steps
        told = self._info(reached, terminated or truncated)
        return float(np.squeeze(reward)), terminated, truncated, told

    @property
    def dt(self) -> float:
        """Seconds of a step."""
        return float(self.simulator.dt)

    def _numbers(self) -> Observation:
        return {"state": self.simulator._get_obs()}

    @property
    def _held(self) -> bool:
        return self._reached > HELD[self.task]

    def _info(self, reached: bool, over: bool) -> dict[str, Any]:
        successes = {"any_step": self._reached > 0, "last_step": over and reached}
        return {"is_success": self._held, "task": self.task, "successes": successes}
