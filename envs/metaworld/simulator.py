"""One of MetaWorld's simulators, its episodes made functions of a seed, and a pool of them.

A simulator holds a compiled model of some 50 MB and takes half a second to make. Environments
borrow one for an episode, so that slots that run all fifty tasks do not each hold fifty.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from numpy.typing import NDArray

from dipole.envs.media.mujoco_renderer import Renderers
from dipole.envs.metaworld.tasks import MOVED, VERSION

# Cameras that MetaWorld mounts upside down: what they see is turned by 180 degrees.
UPSIDE_DOWN = frozenset({"corner", "corner2", "corner3", "corner4"})
UNLIMITED = 10**9  # steps: whoever steps a simulator says when an episode is over


class TaskSimulator:
    """MetaWorld's simulator of one task, with its goal in the observation, as in MT1 to MT50.

    name: Of the task, without a version.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.sawyer = ALL_V3_ENVIRONMENTS[name + VERSION]()
        self.sawyer.__dict__.pop("sawyer_observation_space", None)  # cached, of a hidden goal
        self.sawyer._partially_observable = False
        self.sawyer._set_task_called = True
        self.sawyer.seeded_rand_vec = True
        self.sawyer.max_path_length = UNLIMITED
        self._renderers = Renderers(self.sawyer.model)

    def reset(self, seed: int) -> NDArray[np.float32]:
        """Begin an episode: state [39].

        MetaWorld's own draw of what a task varies (object and goal positions, uniform in a box,
        those too close to each other rejected), from the seed and nothing else. The episode is the
        one that `set_task` with this draw and `reset` give.
        """
        self._draw(seed)
        self.sawyer.curr_path_length = 0
        # MetaWorld's own reset moves the hand to its start twice: half a second of simulated time.
        state, _ = MujocoEnv.reset(self.sawyer)
        self.sawyer._prev_obs = state[:18].copy()
        state[18:36] = state[:18]
        return np.asarray(state, np.float32)

    def _draw(self, seed: int) -> None:
        """Fix what the task varies, without moving the hand to its start meanwhile."""
        self.sawyer.np_random = np.random.default_rng(seed)
        self.sawyer._freeze_rand_vec = False
        self.sawyer.init_tcp = self.sawyer.tcp_center
        self.sawyer._reset_hand = _stay
        self.sawyer.reset_model()
        del self.sawyer._reset_hand
        self.sawyer._freeze_rand_vec = True

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool]:
        """Execute an action [4] in [-1, 1]: state [39], reward, success."""
        state, reward, _, _, info = self.sawyer.step(action)
        return np.asarray(state, np.float32), float(reward), bool(info["success"])

    def picture(self, camera: str, size: int) -> NDArray[np.uint8]:
        """What a camera sees, upright: [size, size, 3]."""
        data = self.sawyer.data
        with _mounted(data, camera) as name:
            return _upright(self._renderers.of(size, size).render(data, name), name)

    def depth(self, camera: str, size: int) -> NDArray[np.float32]:
        """Distances from a camera's plane, metres, upright: [size, size, 1]."""
        data = self.sawyer.data
        with _mounted(data, camera) as name:
            return _upright(self._renderers.of(size, size).depth(data, name), name)

    def forget_renderer(self, size: int) -> None:
        """Free what draws pictures of this size until one is asked for again."""
        self._renderers.forget(size, size)


class FreeSimulators:
    """Simulators that no episode uses at present, by task, made when first needed."""

    def __init__(self) -> None:
        self._free: dict[str, list[TaskSimulator]] = {}

    def borrow(self, name: str) -> TaskSimulator:
        """One that nobody else uses until it is given back."""
        free = self._free.get(name)
        return free.pop() if free else TaskSimulator(name)

    def give_back(self, simulator: TaskSimulator) -> None:
        """Whoever borrowed it does not use it any more."""
        self._free.setdefault(simulator.name, []).append(simulator)


SIMULATORS = FreeSimulators()  # of this process


def _stay(steps: int = 0) -> None:
    """In the place of what moves the hand."""


@contextmanager
def _mounted(data: Any, camera: str) -> Iterator[str]:
    """While a picture is drawn: the name of the camera that stands where `camera` does."""
    name, place = MOVED.get(camera, (camera, None))
    mounted = data.camera(name).xpos
    before = mounted.copy()
    try:
        mounted[:] = before if place is None else place
        yield name
    finally:
        mounted[:] = before


def _upright(pixels: NDArray[Any], camera: str) -> NDArray[Any]:
    return np.ascontiguousarray(pixels[::-1, ::-1]) if camera in UPSIDE_DOWN else pixels
