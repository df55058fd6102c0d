"""Two ALOHA arms as a gymnasium environment: a cube from hand to hand, a peg into a socket."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.envs.aloha.joints import GRIPPERS, Floats, from_mujoco
from dipole.envs.aloha.simulation import STEP, Simulation, cameras
from dipole.envs.aloha.tasks import MAX_REWARD, TASKS
from dipole.envs.media.mujoco_renderer import Renderers
from dipole.envs.media.mujoco_views import DEPTH

MAX_STEPS = 400  # of the simulator, as published
VECTORS = ("state", "velocity", "environment_state")

Observation = dict[str, NDArray[Any]]


class Aloha(gymnasium.Env[Observation, NDArray[np.float32]]):
    """gym-aloha's physics, starts and rewards, with the observations that are asked for.

    observation: Any of "state" [14] (joints in radians, grippers 0 closed to 1 open), "velocity"
        [14] (of these, per second), "environment_state" [7] or [14] (each object's position in
        metres and unit quaternion w, x, y, z; of insertion the peg, then the socket), all float32;
        a camera's name, uint8 [height, width, 3]; with "_depth" behind it, float32 [height, width,
        1] in metres. Cameras: top, angle, front_close, left_pillar, right_pillar, left_wrist,
        right_wrist. Only what is asked for is computed.
    task: "transfer_cube" or "insertion".
    image_size: Height and width of pictures and depth, pixels; one number for both.
    fast_rendering: No shadows, reflections and multisampling in what is observed.
    end_at_success: Whether success ends an episode, as in gym-aloha. False: it goes on to its time
        limit, as in ALOHA's publication; then demonstrations show the whole task.
    render_camera, render_size: Of `render`: which camera, and its width in pixels (3/4 as high).
    max_steps: Steps after which an episode is truncated; None: 8 seconds of them.
    action_repeat: For how many of the simulator's steps, 50 a second, an action is held: a step of
        this environment.

    Action: [14], target joints in radians and grippers 0 to 1. Reward: 0 to 4, the furthest stage
    of the step. Info: "is_success" (the reward is 4), "successes" {stage: whether it held}.

    >>> env = Aloha(("state",), "transfer_cube")
    >>> observation, info = env.reset(seed=0)
    >>> observation["state"].shape, info["is_success"]
    ((14,), False)
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / STEP)}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(
        self,
        observation: Sequence[str] = ("state", "environment_state"),
        task: str = "transfer_cube",
        image_size: int | Sequence[int] = 96,
        fast_rendering: bool = True,
        end_at_success: bool = False,
        render_camera: str = "angle",
        render_size: int = 480,
        max_steps: int | None = None,
        action_repeat: int = 1,
    ) -> None:
        if task not in TASKS:
            raise ConfigError(f"aloha has no task {task!r}. Known: {', '.join(TASKS)}")
        for name, value in (
            ("render_size", render_size),
            ("action_repeat", action_repeat),
            ("max_steps", 1 if max_steps is None else max_steps),
        ):
            if value < 1:
                raise ConfigError(f"aloha's {name} is {value}: it is at least 1")
        self.task = task
        self.observation = _checked(observation, cameras(TASKS[task].scene))
        self.end_at_success, self.action_repeat = end_at_success, action_repeat
        self.max_steps = max_steps or -(-MAX_STEPS // action_repeat)
        self.metadata = {**self.metadata, "render_fps": 1 / self.dt}
        self.render_camera = _camera(render_camera, cameras(TASKS[task].scene))
        self.render_size = render_size
        self.simulation = Simulation(TASKS[task])
        self.steps = 0
        self._size = _size(image_size)
        self._fast = fast_rendering
        self._renderers = Renderers(self.simulation.model)
        looks: dict[str, spaces.Space[Any]] = {name: self._space(name) for name in self.observation}
        self.observation_space = spaces.Dict(looks)  # type: ignore[assignment]
        self.action_space = _action_space(self.simulation.model.actuator_ctrlrange)

    @property
    def data(self) -> Any:
        """MuJoCo's, whose warnings say that the state is not finite."""
        return self.simulation.data

    @property
    def dt(self) -> float:
        """Seconds of a step."""
        return STEP * self.action_repeat

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Objects at the seed's poses. Raises ConfigError for options: there are none."""
        if options:
            raise ConfigError(f"aloha has no reset options, got {', '.join(map(repr, options))}")
        super().reset(seed=seed)
        start = int(self.np_random.integers(2**31)) if seed is None else seed
        self.simulation.reset(TASKS[self.task].start(start))
        self.steps = 0
        return self.observe(), _info(*self.simulation.judge())

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Follow an action for dt seconds. Raises ValueError unless it is 14 finite numbers."""
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: NDArray[np.float32]) -> tuple[float, bool, bool, dict[str, Any]]:
        """`step` without looking: (reward, terminated, truncated, info)."""
        target = np.array(action, dtype=np.float64)
        if target.shape != (14,) or not np.isfinite(target).all():
            raise ValueError(f"an action is 14 finite numbers, joints and grippers; got {action!r}")
        judged = []
        for _ in range(self.action_repeat):
            self.simulation.step(target)
            judged.append(self.simulation.judge())
        self.steps += 1
        reward = max(each for each, _ in judged)
        info = _info(reward, {name: any(held[name] for _, held in judged) for name in judged[0][1]})
        over = self.end_at_success and info["is_success"]
        return float(reward), over, self.steps >= self.max_steps, info

    def observe(self) -> Observation:
        """What was asked for, of the present state."""
        return {name: self._look(name) for name in self.observation}

    def render(self) -> NDArray[np.uint8]:
        """The scene [render_size * 3 / 4, render_size, 3], seen by render_camera."""
        size = (max(1, self.render_size * 3 // 4), self.render_size)
        return self._renderers.of(*size).render(self.simulation.data, self.render_camera)

    def hold_action(self) -> Floats:
        """The action [14] that keeps arms and grips as they are: the targets that are followed."""
        return self.simulation.target

    def close(self) -> None:
        self._renderers.close()

    def _look(self, name: str) -> NDArray[Any]:
        simulation = self.simulation
        if name == "state":
            return simulation.state.astype(np.float32)
        if name == "velocity":
            return simulation.velocity.astype(np.float32)
        if name == "environment_state":
            return simulation.objects.astype(np.float32)
        renderer = self._renderers.of(*self._size, fast=self._fast)
        if name.endswith(DEPTH):
            return renderer.depth(simulation.data, name.removesuffix(DEPTH))
        return renderer.render(simulation.data, name)

    def _space(self, name: str) -> spaces.Box:
        if name in ("state", "velocity"):
            return spaces.Box(-np.inf, np.inf, (14,), np.float32)
        if name == "environment_state":
            return spaces.Box(-np.inf, np.inf, (7 * len(TASKS[self.task].objects),), np.float32)
        if name.endswith(DEPTH):
            return spaces.Box(0.0, np.inf, (*self._size, 1), np.float32)
        return spaces.Box(0, 255, (*self._size, 3), np.uint8)


def _info(reward: int, stages: dict[str, bool]) -> dict[str, Any]:
    return {"is_success": reward == MAX_REWARD, "successes": stages}


def _checked(observation: Sequence[str], known_cameras: tuple[str, ...]) -> tuple[str, ...]:
    known = (*VECTORS, *known_cameras, *(f"{camera}{DEPTH}" for camera in known_cameras))
    for name in observation:
        if name not in known:
            raise ConfigError(
                f"aloha has no observation {name!r}{nearest(name, known) or '.'} "
                f"Known: {', '.join(known)}"
            )
    if not observation:
        raise ConfigError(f"observation is empty: choose from {', '.join(known)}")
    return tuple(observation)


def _camera(name: str, known: tuple[str, ...]) -> str:
    if name not in known:
        raise ConfigError(
            f"aloha's render_camera is {name!r}{nearest(name, known) or '.'} "
            f"Known: {', '.join(known)}"
        )
    return name


def _size(image_size: int | Sequence[int]) -> tuple[int, int]:
    given = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(given) != 2 or min(given) < 1:
        raise ConfigError(
            f"aloha's image_size is {image_size!r}: one number, or height and width, above 0"
        )
    return int(given[0]), int(given[1])


def _action_space(control_range: Floats) -> "spaces.Space[NDArray[np.float32]]":
    """Targets within the joints' limits; a gripper's are 0 and 1."""
    low, high = from_mujoco(control_range[:, 0]), from_mujoco(control_range[:, 1])
    low[GRIPPERS], high[GRIPPERS] = 0.0, 1.0
    return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
