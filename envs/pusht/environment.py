"""Push-T: a disc pushes a T-shaped block onto its goal. What happens is what happens in gym-pusht.

gym-pusht, pinned, is where its constants come from and what tests hold it to: starts and states to
the last bit, rewards to 1e-9, pictures to the last pixel. `benchmarks/pusht_step.py` compares both.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.envs.pusht.coverage import coverage
from dipole.envs.pusht.drawing import Drawing, draw_cross
from dipole.envs.pusht.geometry import KEYPOINTS, WORLD_SIZE, Floats, pusht_keypoints
from dipole.envs.pusht.physics import PushWorld, place

SUCCESS_COVERAGE = 0.95
MAX_STEPS = 300
IMAGE_SIZE = 96
OBSERVATIONS = ("keypoint", "agent_pos", "state", "exact_state", "image")

Observation = dict[str, NDArray[Any]]


class PushT(gymnasium.Env[Observation, NDArray[np.float32]]):
    """gym-pusht's physics and start states, with the observations that are asked for.

    observation: any of "keypoint" [9, 2], "agent_pos" [2], "state" [5] (agent x, y, block x, y and
    angle in [0, 2 pi)), all float32, in pixels and radians; "exact_state", the state in float64, of
    which features are made; "image" [96, 96, 3] uint8, drawn only where it is asked for. Action:
    the agent's target position [2], 0 to 512, at 10 Hz. Reward: clip(coverage / 0.95, 0, 1);
    terminated once coverage > 0.95, truncated after 300 steps.

    `reset(options={"state": [5]})` starts from a state instead of the seed's own. `step` is
    `advance` and then `observe`: who does not look at every step saves the keypoints and pictures.

    >>> env = PushT(observation=("agent_pos",))
    >>> observation, info = env.reset(seed=0)
    >>> observation["agent_pos"].shape, sorted(info)
    ((2,), ['coverage', 'is_success'])
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(
        self,
        observation: Sequence[str] = ("keypoint", "agent_pos", "state"),
        render_size: int = 256,  # as wide as a video shows it
        max_steps: int = MAX_STEPS,
    ) -> None:
        self.observation = tuple(observation)
        for name in self.observation:
            if name not in OBSERVATIONS:
                hint = nearest(name, OBSERVATIONS)
                raise ConfigError(
                    f"pusht has no observation {name!r}{hint or '.'} "
                    f"Known: {', '.join(OBSERVATIONS)}"
                )
        if not self.observation:
            raise ConfigError(f"observation is empty: choose from {', '.join(OBSERVATIONS)}")
        if render_size < 1 or max_steps < 1:
            raise ConfigError(f"render_size {render_size}, max_steps {max_steps}: at least 1")
        self.max_steps = max_steps
        self.render_size = render_size
        self.world = PushWorld()
        self.target: Floats | None = None  # the last action
        self.steps = 0
        self._drawing: Drawing | None = None
        looks: dict[str, spaces.Space[Any]] = {name: _space(name) for name in self.observation}
        self.observation_space = spaces.Dict(looks)  # type: ignore[assignment]
        self.action_space = spaces.Box(0.0, WORLD_SIZE, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The seed's own start, or options["state"]. Raises ConfigError for an unknown option, and
        for a state that is none."""
        options = options or {}
        for name in options:
            if name != "state":
                raise ConfigError(f"pusht has no reset option {name!r}: only 'state', five numbers")
        super().reset(seed=seed)
        self.world = PushWorld()
        self.world.start(self.np_random)
        self.target, self.steps = None, 0
        if "state" in options:
            try:
                self.set_state(options["state"])
            except (TypeError, ValueError) as error:
                said = f"pusht's state is {options['state']!r}: five finite numbers are needed"
                raise ConfigError(said) from error
        return self.observe(), self._info(coverage(self.world.pose))

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Chase the target for 0.1 s. Raises ValueError for one that is not two finite numbers."""
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: NDArray[np.float32]) -> tuple[float, bool, bool, dict[str, Any]]:
        """`step` without looking: (reward, terminated, truncated, info)."""
        target = np.array(action, dtype=np.float64)
        if target.shape != (2,) or not all(map(isfinite, target.tolist())):
            raise ValueError(
                f"an action is two finite numbers, the target's x and y; got {action!r}"
            )
        self.target = target
        self.world.step(target)
        self.steps += 1
        info = self._info(coverage(self.world.pose))
        reward = min(info["coverage"] / SUCCESS_COVERAGE, 1.0)
        return reward, info["is_success"], self.steps >= self.max_steps, info

    def observe(self) -> Observation:
        """What was asked for, of the present state."""
        state = self.world.state
        return {name: self._look(name, state) for name in self.observation}

    def render(self) -> NDArray[np.uint8]:
        """The scene [render_size, render_size, 3], with a cross at the last target."""
        image = self._draw(self.render_size)
        if self.target is not None:
            draw_cross(image, self.target)
        return image

    def hold_action(self) -> Floats:
        """The action [2] that keeps the agent where it is."""
        return self.state[:2]

    def action_pixels(self, actions: NDArray[Any], height: int, width: int) -> NDArray[Any]:
        """Where actions [..., 2] lie in a picture of the scene, [..., 2], to the right and down."""
        return actions / WORLD_SIZE * [width, height]

    @property
    def pose(self) -> Floats:
        """Block x, y and angle, not wrapped."""
        return self.world.pose

    @property
    def state(self) -> Floats:
        """Agent x, y, block x, y and angle in [0, 2 pi)."""
        return self.world.state

    def set_state(self, state: Sequence[float] | Floats) -> None:
        """Put agent and block exactly at a state [5], at rest. Raises ValueError otherwise."""
        values = np.asarray(state, dtype=np.float64)
        if values.shape != (5,) or not np.isfinite(values).all():
            raise ValueError(f"a state is five finite numbers; got {state!r}")
        self.world = PushWorld()  # it remembers no contact: what follows depends on the state alone
        place(self.world.agent, self.world.block, values[:2], values[2:])

    def _info(self, covered: float) -> dict[str, Any]:
        return {"is_success": covered > SUCCESS_COVERAGE, "coverage": covered}

    def _look(self, name: str, state: Floats) -> NDArray[Any]:
        if name == "keypoint":
            keypoints: NDArray[np.float32] = pusht_keypoints(state[None])[0]
            return keypoints
        if name == "agent_pos":
            return state[:2].astype(np.float32)
        if name == "state":
            return state.astype(np.float32)
        if name == "exact_state":
            return state.copy()
        return self._draw(IMAGE_SIZE)

    def _draw(self, size: int) -> NDArray[np.uint8]:
        if self._drawing is None:
            self._drawing = Drawing()
        return self._drawing.draw(self.world, size)


def _space(name: str) -> spaces.Box:
    if name == "image":
        return spaces.Box(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    if name in ("state", "exact_state"):
        dtype: Any = np.float32 if name == "state" else np.float64
        high = np.array([WORLD_SIZE] * 4 + [2 * np.pi], dtype=dtype)
        return spaces.Box(np.zeros(5, dtype), high, dtype=dtype)
    shape = KEYPOINTS.shape if name == "keypoint" else (2,)
    # A keypoint lies past the wall where the block leans over it, by up to its own length.
    slack = 150.0 if name == "keypoint" else 0.0
    return spaces.Box(-slack, WORLD_SIZE + slack, shape, np.float32)
