"""Any environment as a robot on the virtual clock: one step for each action's time.

time      0          dt         2 dt
command   a0         a1         a2           the newest one counts
step           a0 ->      a1 ->              made when its time is over, and then observed
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from dipole.deploy.loop.clock import Clock
from dipole.deploy.robots.channel import Channel
from dipole.deploy.robots.groups import ActionGroup, ActionSpec, Kind
from dipole.deploy.robots.robot import Reading, Robot, RobotSpec
from dipole.deploy.safety.limits import Limits
from dipole.deploy.types import Floats
from dipole.envs.evaluation import EpisodeResult
from dipole.envs.evaluation.outcome import Outcome, diverged_line
from dipole.envs.rollout import Command, SimulatorPool, Turn
from dipole.envs.wrapped import offered

SETPOINT = "setpoint"  # the channel of the action that was commanded last
UNBOUNDED = 1e4  # what stands for the bounds of an action space without any
BEYOND = 10.0  # ranges of an action space that commands may lie outside of it
FAST = 1e6  # ranges of an action per second: a limit that binds nowhere


class SimulatedRobot(Robot):
    """One episode of an environment. over: whether it has ended.

    Commands may lie outside of its action space, as in plain evaluation: the simulator clips them,
    or the environment does what it does.
    An environment with a method `hold_action()`, the action [A] that keeps it where it is, begins
    with that, and where the next chunk is late its last action is repeated. Without it, actions
    are taken for forces, velocities or differences, and it is commanded zeros meanwhile.

    start: The command that starts the episode. hz: Steps a second.
    """

    def __init__(self, clock: Clock, simulators: SimulatorPool, start: Command, hz: float) -> None:
        self._clock, self._hz = clock, hz
        self._simulators, self._episode = simulators, start
        self._outcome = Outcome()
        self._elapsed = 0  # actions' times since the start
        self.over = False
        first = self._perform(None)
        self._outcome.add(first)
        self._newest = first.observations[-1]
        environment = simulators.environment(start.slot)
        hold = offered(environment, "hold_action")
        low, high = _bounds(environment.action_space)
        self._action = np.zeros(len(low)) if hold is None else np.asarray(hold(), np.float64)
        channels = {
            name: Channel(value.shape, str(value.dtype)) for name, value in self._newest.items()
        }
        channels[SETPOINT] = Channel(self._action.shape, "float64")
        self.spec = RobotSpec(channels, _action_spec(low, high, holds=hold is not None))

    def episode_result(self) -> EpisodeResult:
        """What came of the episode so far; of at least one step. Prints why, where the simulator's
        state was not finite."""
        if self._outcome.diverged:
            print(diverged_line(self._episode, self._outcome))
        return self._outcome.result(self._episode.seed)

    def connect(self) -> None:
        self._start, self._elapsed = self._clock.now(), 0
        self._commanded = False

    def observe(self) -> Reading:
        self._advance()
        time = self._start + self._elapsed / self._hz
        return Reading(time, {**self._newest, SETPOINT: self._action})

    def command(self, action: Floats) -> None:
        self._advance()
        self._action, self._commanded = np.array(action, np.float64), True

    def hold(self) -> None:
        self._advance()

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _advance(self) -> None:
        """Make the steps whose time is over; without a command yet, the world waits."""
        due = math.floor((self._clock.now() - self._start) * self._hz + 1e-6)
        while self._elapsed < due:
            self._elapsed += 1
            if self._commanded and not self.over:
                self._step()

    def _step(self) -> None:
        turn = self._perform(self._action.astype(np.float32)[None])
        self._outcome.add(turn)
        self.over = turn.done
        self._newest = turn.observations[-1] if turn.observations else self._newest

    def _perform(self, actions: np.ndarray | None) -> Turn:
        return self._simulators.perform(replace(self._episode, actions=actions))


def _bounds(space: Any) -> tuple[Floats, Floats]:
    low, high = (np.asarray(bound, np.float64).ravel() for bound in (space.low, space.high))
    low, high = np.maximum(low, -UNBOUNDED), np.minimum(high, UNBOUNDED)
    return low - BEYOND * (high - low), high + BEYOND * (high - low)


def _action_spec(low: Floats, high: Floats, holds: bool) -> ActionSpec:
    names = tuple(f"action {number}" for number in range(len(low)))
    fast = tuple(FAST * (high - low))
    limits = Limits(tuple(low), tuple(high), fast, tuple(FAST * np.asarray(fast)))
    if holds:
        group = ActionGroup(
            "action", Kind.JOINT_POSITION, names, measured_by=SETPOINT, limits=limits
        )
    else:
        group = ActionGroup("action", Kind.JOINT_VELOCITY, names, limits=limits)
    return ActionSpec.of(group)
