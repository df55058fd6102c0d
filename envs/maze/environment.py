"""PointMaze as an environment: positions as actions, start and goal by seed, drawn by itself."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium_robotics.envs.maze.point_maze import PointMazeEnv
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.envs.maze.control import PositionControl
from dipole.envs.maze.drawing import draw, picture_size, to_pixels
from dipole.envs.maze.maps import Floats, MazeMap

OBSERVATIONS = {"state": 4, "position": 2, "goal": 2, "image": None}
CONTROLS = {"position": 10, "force": 1}  # and the simulator's steps of an action
PUBLISHED_STEPS = {"umaze": 300, "open": 300, "medium": 600, "large": 800}  # of the simulator
RESET_OPTIONS = ("goal_cell", "reset_cell")
IMAGE_SIZE = 96

Observation = dict[str, NDArray[Any]]


class PointMaze(gymnasium.Env[Observation, NDArray[np.float32]]):
    """A ball in a maze, and a goal: solved within 0.45 m of it, as published.

    task: "umaze", "open", "medium" or "large".
    observation: Any of "state" [4] (x, y in metres, their velocities in m/s), "position" [2] and
        "goal" [2] in metres, all float64, and "image" uint8 (the longer side has 96 pixels).
    control: "position": an action is where the ball is to be when the action is over, [2] in
        metres, tracked by a PD law; "force": the simulator's own, [2] from -1 to 1.
    simulator_steps: Steps of the simulator, of 0.01 s, that an action lasts; None: 10 for
        positions, 1 for forces.
    max_steps: Actions after which an episode is truncated; None: as many as last as long as the
        published limit.
    end_at_success: Whether the episode ends at the goal. As published it goes on.
    reset_target: Whether a goal that was reached is replaced by another one, at once: the action in
        which it was reached is a success.
    render_size: Longer side of `render`'s picture, pixels.

    Reward: 1 at the goal, else 0, after each action. Info: "is_success", as the reward.
    Start and goal are drawn from the seed; reset options "goal_cell" and "reset_cell", each a row
    and a column, say in which cell they lie.

    >>> env = PointMaze("umaze")
    >>> observation, info = env.reset(seed=0)
    >>> observation["position"].shape, info["is_success"]
    ((2,), False)
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(
        self,
        task: str,
        observation: Sequence[str] = ("state", "position", "goal"),
        control: str = "position",
        simulator_steps: int | None = None,
        max_steps: int | None = None,
        end_at_success: bool = False,
        reset_target: bool = False,
        render_size: int = 256,
    ) -> None:
        self.observation = _checked_names(observation)
        if control not in CONTROLS:
            raise ConfigError(
                f"maze's control is {control!r}{nearest(control, CONTROLS) or '.'} "
                f"Known: {', '.join(CONTROLS)}"
            )
        steps = CONTROLS[control] if simulator_steps is None else simulator_steps
        limit = PUBLISHED_STEPS[task] // max(steps, 1) if max_steps is None else max_steps
        if min(steps, limit, render_size) < 1:
            raise ConfigError(
                f"simulator_steps {steps}, max_steps {limit}, render_size {render_size}: at least 1"
            )
        self.maze = MazeMap.named(task)
        self.control, self.simulator_steps, self.max_steps = control, steps, limit
        self.end_at_success, self.render_size = end_at_success, render_size
        self.reset_target = reset_target
        self.simulator = _simulator(self.maze, reset_target)
        self.metadata = {**self.metadata, "render_fps": 1 / self.dt}
        self._tracker = PositionControl(steps, self.simulator_seconds)
        self._seen = np.zeros(4)
        self._steps = 0
        self.target: Floats | None = None  # the last action, where it is a position
        self.trail: list[Floats] = []
        looks: dict[str, spaces.Space[Any]] = {name: self._space(name) for name in self.observation}
        self.observation_space = spaces.Dict(looks)  # type: ignore[assignment]
        corner = np.array([self.maze.width / 2, self.maze.height / 2], np.float32)
        largest = corner if control == "position" else np.ones(2, np.float32)
        self.action_space = spaces.Box(-largest, largest, (2,), np.float32)

    @property
    def simulator_seconds(self) -> float:
        """Of one step of the simulator."""
        return float(self.simulator.point_env.model.opt.timestep)

    @property
    def dt(self) -> float:
        """Seconds of an action."""
        return self.simulator_steps * self.simulator_seconds

    @property
    def data(self) -> Any:
        """MuJoCo's, whose warnings say that the state is not finite."""
        return self.simulator.point_env.data

    @property
    def position(self) -> Floats:
        """Where the ball is, [2], metres."""
        return self._seen[:2]

    @property
    def goal(self) -> Floats:
        """Where it is to be, [2], metres."""
        found: Floats = self.simulator.goal
        return found

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The seed's own start and goal.

        options: "goal_cell" and "reset_cell", as for the class. Raises ConfigError for a cell that
        is a wall, and for other options.
        """
        super().reset(seed=seed)
        seen, _ = self.simulator.reset(seed=seed, options=self._cells(options or {}))
        self._seen, self._steps = seen["observation"], 0
        self._tracker.reset(self.position)
        self.target, self.trail = None, [self.position]
        return self.observe(), {"is_success": False}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One action. Raises ValueError for one that is not two finite numbers."""
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: NDArray[np.float32]) -> tuple[float, bool, bool, dict[str, Any]]:
        """`step`, without looking."""
        wanted = np.array(action, dtype=np.float64)
        if wanted.shape != (2,) or not np.isfinite(wanted).all():
            raise ValueError(f"an action is two finite numbers, x and y; got {action!r}")
        if self.control == "position":
            self.target = wanted
            self._tracker.follow(wanted)
        success = False
        for number in range(self.simulator_steps):
            force = wanted
            if self.control == "position":
                force = self._tracker.force(number, self._seen[:2], self._seen[2:])
            seen, reward, _, _, _ = self.simulator.step(force)
            # A goal that was reached is replaced at once, and the ball is not at the new one.
            replaced = success and self.reset_target
            self._seen, success = seen["observation"], bool(reward) or replaced
        self._steps += 1
        self.trail.append(self.position)
        over = success and self.end_at_success
        return float(success), over, self._steps >= self.max_steps, {"is_success": success}

    def observe(self) -> Observation:
        """What `observation` names."""
        return {name: self._look(name) for name in self.observation}

    def hold_action(self) -> NDArray[np.float32]:
        """What keeps the ball where it is."""
        kept = self.position if self.control == "position" else np.zeros(2)
        return kept.astype(np.float32)

    def render(self) -> NDArray[np.uint8]:
        """The maze from above, y up, with the path so far and the target."""
        return self._drawn(self.render_size)

    def action_pixels(self, actions: Floats, height: int, width: int) -> Floats:
        """Where actions [..., 2] lie in `render`'s picture: pixels [..., 2], x right, y down.

        Forces lie from where the ball is, a metre long where they are largest.
        """
        points = actions if self.control == "position" else self.position + actions
        return to_pixels(points, self.maze, width, height)

    def close(self) -> None:
        self.simulator.close()

    def _cells(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Reset options as the simulator takes them."""
        cells = {}
        for name, value in options.items():
            if name not in RESET_OPTIONS:
                raise ConfigError(
                    f"maze has no reset option {name!r}{nearest(name, RESET_OPTIONS) or '.'} "
                    f"Known: {', '.join(RESET_OPTIONS)}"
                )
            if value is None:
                continue
            cell = _cell(value)
            if cell is None or not self.maze.is_free(cell):
                raise ConfigError(
                    f"maze's {name} is {value!r}: a row and a column of a free cell are needed, "
                    f"such as {list(self.maze.free_cells[0])}"
                )
            cells[name] = cell
        return cells

    def _drawn(self, size: int) -> NDArray[np.uint8]:
        pixels = picture_size(self.maze, size)
        return draw(self.maze, self.goal, self.trail, self.target, pixels)

    def _look(self, name: str) -> NDArray[Any]:
        if name == "state":
            return self._seen.copy()
        if name == "position":
            return self.position.copy()
        if name == "goal":
            return self.goal.copy()
        return self._drawn(IMAGE_SIZE)

    def _space(self, name: str) -> spaces.Box:
        numbers = OBSERVATIONS[name]
        if numbers is None:
            width, height = picture_size(self.maze, IMAGE_SIZE)
            return spaces.Box(0, 255, (height, width, 3), np.uint8)
        return spaces.Box(-math.inf, math.inf, (numbers,), np.float64)


def _cell(value: Any) -> tuple[int, int] | None:
    """Two whole numbers; None for anything else."""
    try:
        numbers = np.asarray(value)
    except ValueError:  # lists of different lengths
        return None
    if numbers.shape != (2,) or numbers.dtype.kind not in "iu":
        return None
    return int(numbers[0]), int(numbers[1])


def _checked_names(observation: Sequence[str]) -> tuple[str, ...]:
    known = ", ".join(OBSERVATIONS)
    if not observation:
        raise ConfigError(f"observation is empty: choose from {known}")
    for name in observation:
        if name not in OBSERVATIONS:
            raise ConfigError(
                f"maze has no observation {name!r}{nearest(name, OBSERVATIONS) or '.'} "
                f"Known: {known}"
            )
    return tuple(observation)


def _simulator(maze: MazeMap, reset_target: bool) -> PointMazeEnv:
    """gymnasium-robotics' own; the file that it writes for MuJoCo goes once it is read."""
    made = PointMazeEnv(maze_map=maze.numbers, continuing_task=True, reset_target=reset_target)
    Path(made.tmp_xml_file_path).unlink(missing_ok=True)
    return made
