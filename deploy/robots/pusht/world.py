"""The Push-T world as a plant: physics that advances with time, whether or not a command came.

    command ──command_delay──> target of the agent's controller, 100 Hz
    physics ──sensor_hz──> reading, noise, dropped or not ──sensor_delay──> can be observed

It keeps no clock; whoever calls says what time it is. In real time that is a process
(robot.py), in tests the virtual clock.
"""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.deploy.robots.robot import Reading
from dipole.deploy.types import Floats
from dipole.envs.pusht.coverage import coverage
from dipole.envs.pusht.environment import SUCCESS_COVERAGE, PushT

PHYSICS_HZ = 100.0


@dataclass(frozen=True)
class WorldConfig:
    """observation: what its sensors give; seed: the start, and the noise; sensor_hz: readings per
    second; sensor_delay, command_delay: seconds; noise: standard deviation added to readings, in
    pixels (not to images); dropped: the share of readings that never arrive."""

    observation: tuple[str, ...] = ("keypoint", "agent_pos")
    seed: int = 0
    sensor_hz: float = 50.0
    sensor_delay: float = 0.0
    command_delay: float = 0.0
    noise: float = 0.0
    dropped: float = 0.0

    def __post_init__(self) -> None:
        # Where the agent is is always measured: without it no first command can be limited.
        seen = dict.fromkeys([*self.observation, "agent_pos"])
        object.__setattr__(self, "observation", tuple(seen))
        for name in ("sensor_delay", "command_delay", "noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is {getattr(self, name)}; it cannot be negative")
        if not 0 < self.sensor_hz <= PHYSICS_HZ:
            raise ConfigError(f"sensor_hz is {self.sensor_hz}; physics runs at {PHYSICS_HZ:g} Hz")
        if not 0 <= self.dropped < 1:
            raise ConfigError(f"dropped is {self.dropped}; it is a share, 0 to below 1")


class PushTWorld:
    """The world from time `start` on. reward: as evaluation counts it, at the newest reading;
    max_reward: the best so far, without the start's own."""

    def __init__(self, config: WorldConfig, start: float) -> None:
        self.config = config
        self.reward = self.max_reward = 0.0
        self._rewards: list[float] = []
        self._env = PushT(observation=config.observation)
        self._env.reset(seed=config.seed)
        self._random = np.random.default_rng([config.seed, 1])
        self._start = start
        self._steps = 0
        self._readings = 0
        self._target: Floats | None = None
        self._commands: deque[tuple[float, Floats | None]] = deque()
        self._arriving: deque[tuple[float, Reading]] = deque()
        self._newest: Reading | None = None
        self._sense(start)

    @property
    def total_reward(self) -> float:
        """The sum of the rewards of all readings but the start's."""
        return math.fsum(self._rewards)

    def advance(self, now: float) -> None:
        """Let the world go on until `now`. What is commanded at `now` acts on what follows."""
        while self._moment(self._steps + 1) <= now + 1e-9:
            self._obey(self._moment(self._steps))
            if self._target is not None:
                self._env.world.step(self._target, 1)
            self._steps += 1
            self._sense(self._moment(self._steps))

    def command(self, target: Floats, now: float) -> None:
        """Send the agent to a target [2]; it takes effect command_delay later."""
        self._commands.append((now + self.config.command_delay, np.array(target, np.float64)))

    def hold(self, now: float) -> None:
        """Send the agent to where it is then."""
        self._commands.append((now + self.config.command_delay, None))

    def observe(self, now: float) -> Reading | None:
        """The newest reading that has arrived."""
        while self._arriving and self._arriving[0][0] <= now + 1e-9:
            self._newest = self._arriving.popleft()[1]
        return self._newest

    def _moment(self, steps: int) -> float:
        return self._start + steps / PHYSICS_HZ

    def _obey(self, moment: float) -> None:
        while self._commands and self._commands[0][0] <= moment + 1e-9:
            target = self._commands.popleft()[1]
            self._target = self._env.world.state[:2] if target is None else target

    def _sense(self, moment: float) -> None:
        if moment + 1e-9 < self._start + self._readings / self.config.sensor_hz:
            return
        self._readings += 1
        if self._steps:
            self.reward = min(coverage(self._env.world.pose) / SUCCESS_COVERAGE, 1.0)
            self.max_reward = max(self.max_reward, self.reward)
            self._rewards.append(self.reward)
        values = {name: self._blur(value) for name, value in self._env.observe().items()}
        if self._random.random() >= self.config.dropped:
            self._arriving.append((moment + self.config.sensor_delay, Reading(moment, values)))

    def _blur(self, value: np.ndarray) -> np.ndarray:
        if not self.config.noise or value.dtype == np.uint8:
            return value
        noise = self._random.normal(0.0, self.config.noise, value.shape)
        return np.asarray(value + noise, np.float32)
