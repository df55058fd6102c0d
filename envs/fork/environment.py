"""Fork as a gymnasium environment: two ways lead to the goal, their mean into the disc."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.envs.fork.geometry import (
    DISC,
    GOAL,
    GOAL_RADIUS,
    MAX_STEP,
    MODES,
    START,
    START_SPREAD,
    WORLD_SIZE,
    Floats,
    collides,
    modes,
)

MAX_STEPS = 48
IMAGE_SIZE = 96
OBSERVATIONS = ("state", "label", "image")
LABELS = {"left": -1.0, "any": 0.0, "right": 1.0}

Observation = dict[str, NDArray[Any]]


class Fork(gymnasium.Env[Observation, NDArray[np.float32]]):
    """A point robot, a disc in its way, and a goal behind the disc.

    observation: Any of "state" [2] (the robot's x and y, metres), "label" [1] (which side is asked
        for: -1 left, 1 right, 0 any), both float32, and "image" [96, 96, 3] uint8.
    label: "left", "right" or "any" in every episode; None: drawn from the episode's seed, "any" in
        half of them.
    render_size: Width and height of `render`'s picture, pixels.
    max_steps: Steps after which an episode is truncated.

    Action: a target position [2], metres, at 10 Hz; the robot moves there, 0.08 m a step at most.
    An episode ends at the goal, or where the robot touches the disc. Reward: 1 on success.
    Info: "is_success", "collision", "mode" ("left" or "right" once the robot is beside the disc's
    centre or past it, None before). Where "label" is observed, success means the side it asks for.

    >>> env = Fork(observation=("state",))
    >>> observation, info = env.reset(seed=0)
    >>> observation["state"].shape, info["mode"]
    ((2,), None)
    """

    metadata = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": 10,
        "modes": MODES,
    }
    render_mode = "rgb_array"

    def __init__(
        self,
        observation: Sequence[str] = ("state", "label"),
        label: str | None = None,
        render_size: int = 256,
        max_steps: int = MAX_STEPS,
    ) -> None:
        self.observation = tuple(observation)
        for name in self.observation:
            if name not in OBSERVATIONS:
                raise ConfigError(
                    f"fork has no observation {name!r}{nearest(name, OBSERVATIONS) or '.'} "
                    f"Known: {', '.join(OBSERVATIONS)}"
                )
        if not self.observation:
            raise ConfigError(f"observation is empty: choose from {', '.join(OBSERVATIONS)}")
        if label is not None and label not in LABELS:
            raise ConfigError(f"fork's label is {label!r}. Known: {', '.join(LABELS)}, or null")
        if render_size < 1 or max_steps < 1:
            raise ConfigError(f"render_size {render_size}, max_steps {max_steps}: at least 1")
        self.fixed_label = label
        self.render_size, self.max_steps = render_size, max_steps
        self.label = label or "any"
        self.position = START.copy()
        self.target: Floats | None = None  # the last action
        self.trail: list[Floats] = []
        self.mode: str | None = None
        looks: dict[str, spaces.Space[Any]] = {name: _space(name) for name in self.observation}
        self.observation_space = spaces.Dict(looks)  # type: ignore[assignment]
        self.action_space = spaces.Box(0.0, WORLD_SIZE, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The seed's own start and label. Raises ConfigError for options: there are none."""
        if options:
            raise ConfigError(f"fork has no reset options, got {', '.join(map(repr, options))}")
        super().reset(seed=seed)
        self.position = START + self.np_random.uniform(-START_SPREAD, START_SPREAD, 2)
        drawn = str(self.np_random.choice(["left", "right", "any", "any"]))
        self.label = self.fixed_label or drawn
        self.target, self.mode, self.trail = None, None, [self.position]
        return self._observe(), self._info(collision=False)

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Move towards the target. Raises ValueError for one that is not two finite numbers."""
        target = np.array(action, dtype=np.float64)
        if target.shape != (2,) or not np.isfinite(target).all():
            raise ValueError(
                f"an action is two finite numbers, the target's x and y; got {action!r}"
            )
        self.target, before = target, self.position
        step = target - before
        after = before + step * min(1.0, MAX_STEP / max(float(np.linalg.norm(step)), 1e-12))
        self.position = np.clip(after, 0.0, WORLD_SIZE)
        self.trail.append(self.position)
        if self.mode is None and self.position[1] >= DISC[1]:
            self.mode = MODES[int(self.position[0] >= DISC[0])]
        info = self._info(collides(before, self.position))
        over = info["is_success"] or info["collision"] or self._at_goal
        truncated = len(self.trail) > self.max_steps
        return self._observe(), float(info["is_success"]), over, truncated, info

    def render(self) -> NDArray[np.uint8]:
        """The scene [render_size, render_size, 3], y up, with the path so far and the target."""
        from dipole.envs.fork.drawing import draw

        return draw(self.trail, self.target, self.render_size)

    def action_pixels(self, actions: Floats, height: int, width: int) -> Floats:
        """Where actions [..., 2] lie in `render`'s picture: pixels [..., 2], x right, y down."""
        x, y = actions[..., 0], actions[..., 1]
        pixels: Floats = np.stack([x * width, (WORLD_SIZE - y) * height], -1) / WORLD_SIZE
        return pixels

    @staticmethod
    def action_modes(chunks: Floats) -> list[str]:
        """The side that each of the chunks [B, H, 2] takes: "left" or "right"."""
        return modes(chunks)

    @property
    def _at_goal(self) -> bool:
        return bool(np.linalg.norm(self.position - GOAL) < GOAL_RADIUS)

    def _info(self, collision: bool) -> dict[str, Any]:
        asked = "label" in self.observation and self.label != "any"
        complies = not asked or self.mode == self.label
        success = self._at_goal and not collision and complies
        return {"is_success": success, "collision": collision, "mode": self.mode}

    def _observe(self) -> Observation:
        return {name: self._look(name) for name in self.observation}

    def _look(self, name: str) -> NDArray[Any]:
        if name == "state":
            return self.position.astype(np.float32)
        if name == "label":
            return np.array([LABELS[self.label]], np.float32)
        from dipole.envs.fork.drawing import draw

        return draw([self.position], None, IMAGE_SIZE)


def _space(name: str) -> spaces.Box:
    if name == "image":
        return spaces.Box(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    if name == "label":
        return spaces.Box(-1.0, 1.0, (1,), np.float32)
    return spaces.Box(0.0, WORLD_SIZE, (2,), np.float32)
