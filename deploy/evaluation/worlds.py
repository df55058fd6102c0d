"""What the control loop moves in an evaluation with delays: episodes of Push-T, or of any other
environment.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, Protocol

from dipole.deploy.evaluation.simulated_robot import SimulatedRobot
from dipole.deploy.loop.clock import VirtualClock
from dipole.deploy.robots.pusht.robot import VirtualPushT
from dipole.deploy.robots.robot import Robot
from dipole.deploy.safety.limits import Limits
from dipole.envs.evaluation import EpisodeResult
from dipole.envs.pusht.environment import MAX_STEPS
from dipole.envs.pusht.geometry import WORLD_SIZE
from dipole.envs.registry import ENVIRONMENTS, environment_version
from dipole.envs.rollout import MOST_STEPS, Command, SimulatorPool
from dipole.envs.rollout.resolved import ResolvedEnvironment

PUSHT = "pusht"
HZ = 10.0
FAR = 1e6  # ranges of an action: nothing is refused that plain evaluation takes
# Wide enough to bind nowhere: the environment has none either.
LIMITS = Limits((0.0,) * 2, (WORLD_SIZE,) * 2, (1e6,) * 2, (1e9,) * 2)


class Episode(Protocol):
    """One episode: its robot, and what came of it."""

    @property
    def robot(self) -> Robot: ...

    def look(self, running: bool) -> bool:
        """Look at the world before a command; whether the episode has just ended.

        running: whether the loop still moves the robot by the policy.
        """
        ...

    def result(self, steps: int) -> EpisodeResult:
        """steps: actions' times that the loop counted."""
        ...


class World(Protocol):
    """Where the episodes take place.

    hz: Steps a second.
    longest: Seconds of an episode.
    refuse_beyond: See `LoopConfig`.
    score, version, options, settings: For the metrics.
    """

    hz: float
    longest: float
    refuse_beyond: float
    score: str | None
    version: dict[str, str]
    options: dict[str, Any]
    settings: dict[str, Any]

    def episode(
        self, clock: VirtualClock, number: int, seed: int
    ) -> AbstractContextManager[Episode]:
        """An episode of a seed, for a while. number: what errors call it."""
        ...

    def close(self) -> None: ...


class SimulatedWorlds:
    """Any environment, one command a step. Simulators are used again."""

    def __init__(self, resolved: ResolvedEnvironment, hz: float) -> None:
        longest = max(MOST_STEPS, resolved.interface.max_steps or 0)
        self.hz, self.longest, self.refuse_beyond = hz, longest / hz, FAR
        self.score, self.version, self.options = resolved.score, resolved.version, resolved.options
        self.settings = resolved.settings
        self._simulators = SimulatorPool(resolved.make, 1, resolved.interface)
        self._free: SimpleQueue[int] = SimpleQueue()
        self._slots = 0

    @contextmanager
    def episode(self, clock: VirtualClock, number: int, seed: int) -> Iterator[Episode]:
        """An episode of a seed."""
        slot = self._slot()
        try:
            start = Command(slot, number, seed)
            yield SimulatedEpisode(SimulatedRobot(clock, self._simulators, start, self.hz))
        finally:
            self._free.put(slot)

    def close(self) -> None:
        self._simulators.close()

    def _slot(self) -> int:
        if not self._free.empty():
            return self._free.get()
        self._slots += 1
        return self._slots - 1


class SimulatedEpisode:
    """See `Episode`."""

    def __init__(self, robot: SimulatedRobot) -> None:
        self.robot = robot

    def look(self, running: bool) -> bool:
        """Whether the environment has ended the episode."""
        if running:
            self.robot.observe()
        return self.robot.over

    def result(self, steps: int) -> EpisodeResult:
        """Its steps are the environment's own."""
        return self.robot.episode_result()


class PushTWorlds:
    """Push-T, whose physics goes on at 100 Hz whatever the rate of commands is."""

    def __init__(self, limits: Limits, observation: tuple[str, ...]) -> None:
        self.hz, self.longest, self.refuse_beyond = HZ, MAX_STEPS / HZ, 1.0
        self.score = ENVIRONMENTS[PUSHT].score
        self.version = environment_version(PUSHT)
        self.options: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}
        self._limits, self._observation = limits, observation

    @contextmanager
    def episode(self, clock: VirtualClock, number: int, seed: int) -> Iterator[Episode]:
        """An episode of a seed."""
        robot = VirtualPushT(clock, observation=self._observation, seed=seed, sensor_hz=HZ)
        robot.spec = replace(robot.spec, limits=self._limits)
        yield PushTEpisode(robot, seed)

    def close(self) -> None:
        pass


class PushTEpisode:
    """See `Episode`."""

    def __init__(self, robot: VirtualPushT, seed: int) -> None:
        self.robot, self._seed = robot, seed
        self._rewards = (0.0, 0.0, 0.0)
        self._over = False

    def look(self, running: bool) -> bool:
        """Whether the task is solved."""
        if not self._over:
            plant = self.robot.plant
            self.robot.observe()
            self._rewards = (plant.max_reward, plant.reward, plant.total_reward)
            self._over = not running
        return self._rewards[0] >= 1.0

    def result(self, steps: int) -> EpisodeResult:
        """steps: of the episode."""
        most, last, total = self._rewards
        at_end = last >= 1.0
        return EpisodeResult(
            self._seed, most >= 1.0, most, last, steps, total, success_at_end=at_end
        )
