"""Simulator slots: a chunk of actions goes in, a turn comes out. In this process; see workers.py.

A slot runs one episode after another. It is sent all the actions of an executed chunk in one
message, steps until they or the episode end, and answers in one message with the observations that
count: the last To of them, and none once the episode is over, since nobody will look at them.

An environment whose observations are costly (images) can offer two methods beside `step`, and is
then not asked to look at what nobody wants to see:

    advance(action) -> (reward, terminated, truncated, info)     step without looking
    observe() -> observation                                     look at the present state
"""

import math
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np

from dipole.data.core.errors import ConfigError, DipoleError
from dipole.envs.media.video import PackedFrame, film_frame, pack_frame

Environment = gymnasium.Env[Any, Any]
EnvironmentFactory = Callable[[], Environment]


class RolloutError(DipoleError):
    """An episode could not be simulated; the message names it."""


@runtime_checkable
class AdvancesWithoutLooking(Protocol):
    """An environment that can step without computing an observation."""

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]: ...

    def observe(self) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True)
class Command:
    """What a slot does next in an episode: actions [Ta, A], or None to start it from its seed.

    record: film every step, for the video. scene: show the last one in full size, for the picture.
    """

    slot: int
    episode: int
    seed: int
    actions: np.ndarray | None = None
    record: bool = False
    scene: bool = False

    def __str__(self) -> str:
        return f"episode {self.episode} (seed {self.seed})"


@dataclass
class Turn:
    """What came of one command.

    observations: the newest ones, oldest first, {name: [*shape]}. rewards: one per step made.
    success: whether any of these steps reported it. frames: the scene after each step, if recorded,
    as small as the video shows it; scene: after the last one, in full size, if asked for.
    """

    slot: int
    observations: list[dict[str, np.ndarray]] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    done: bool = False
    success: bool = False
    frames: list[PackedFrame] = field(default_factory=list)
    scene: PackedFrame | None = None


class Simulator:
    """One environment and the episode that it is in."""

    def __init__(self, environment: Environment, n_obs_steps: int) -> None:
        self.environment = environment
        self.n_obs_steps = n_obs_steps
        self._advancing: AdvancesWithoutLooking | None = None
        if isinstance(environment, AdvancesWithoutLooking):
            self._advancing = environment

    def perform(self, command: Command) -> Turn:
        """Start the command's episode, or step until its actions or the episode end."""
        turn = Turn(command.slot)
        if command.actions is None:
            observation, _ = self.environment.reset(seed=command.seed)
            turn.observations.append(_copied(observation))
            self._film(turn, command, last=True)
            return turn
        unseen, last = len(command.actions) - self.n_obs_steps, len(command.actions) - 1
        for k, action in enumerate(command.actions):
            self._step(turn, action, look=k >= unseen)
            self._film(turn, command, last=k == last)
            if turn.done:
                turn.observations.clear()
                break
        return turn

    def _step(self, turn: Turn, action: np.ndarray, look: bool) -> None:
        if self._advancing:
            reward, terminated, truncated, info = self._advancing.advance(action)
            turn.done = bool(terminated or truncated)
            if look and not turn.done:
                turn.observations.append(_copied(self._advancing.observe()))
        else:
            observation, raw_reward, terminated, truncated, info = self.environment.step(action)
            reward, turn.done = float(raw_reward), bool(terminated or truncated)
            if look:
                turn.observations.append(_copied(observation))
        if "is_success" not in info:
            raise ValueError(
                "the environment's info has no 'is_success', so success cannot be told"
            )
        if not math.isfinite(reward):
            raise ValueError(f"the environment's reward is {reward}")
        turn.rewards.append(float(reward))
        turn.success |= bool(info["is_success"])

    def _film(self, turn: Turn, command: Command, last: bool) -> None:
        if not command.record:
            return
        frame = self.environment.render()
        turn.frames.append(film_frame(frame))
        if last and command.scene:
            turn.scene = pack_frame(frame)


def _copied(observation: Any) -> dict[str, np.ndarray]:
    """Environments may reuse their buffers, and a turn outlives the next step."""
    if not isinstance(observation, dict):
        raise ValueError(
            f"the observation is a {type(observation).__name__}, not a dict of named arrays: "
            "wrap the environment so that every observation has a name"
        )
    return {name: np.array(value) for name, value in observation.items()}


class SimulatorPool:
    """Simulators by slot number, made when first used."""

    def __init__(self, make_environment: EnvironmentFactory, n_obs_steps: int) -> None:
        self._make_environment = make_environment
        self._n_obs_steps = n_obs_steps
        self._simulators: dict[int, Simulator] = {}

    def perform(self, command: Command) -> Turn:
        """Raises RolloutError, naming the episode, whatever the simulator raises."""
        try:
            if command.slot not in self._simulators:
                simulator = Simulator(self._make_environment(), self._n_obs_steps)
                self._simulators[command.slot] = simulator
            return self._simulators[command.slot].perform(command)
        except DipoleError as error:
            raise ConfigError(f"{command}: {error}") from error
        except Exception as error:
            raise RolloutError(
                f"{command}: the simulator raised {type(error).__name__}: {error}\n"
                f"{traceback.format_exc()}"
            ) from error

    def close(self) -> None:
        for simulator in self._simulators.values():
            simulator.environment.close()
        self._simulators.clear()


class Slots(Protocol):
    """Where episodes are simulated: commands go in, one turn comes back for each."""

    @property
    def busy(self) -> int:
        """Commands that have not been answered."""
        ...

    def send(self, command: Command) -> None: ...

    def collect(self) -> list[Turn]:
        """The turns that are ready; waits for at least one while any slot is busy."""
        ...

    def close(self) -> None: ...


class LocalSlots:
    """Slots in this process, simulated one after another when their turns are collected."""

    def __init__(self, make_environment: EnvironmentFactory, n_obs_steps: int) -> None:
        self._pool = SimulatorPool(make_environment, n_obs_steps)
        self._commands: deque[Command] = deque()

    @property
    def busy(self) -> int:
        return len(self._commands)

    def send(self, command: Command) -> None:
        self._commands.append(command)

    def collect(self) -> list[Turn]:
        turns = [self._pool.perform(command) for command in self._commands]
        self._commands.clear()
        return turns

    def close(self) -> None:
        self._pool.close()
