"""Simulator slots: a chunk of actions goes in, a turn comes out. In this process; see workers.py.

A slot runs one episode after another. It is sent all the actions of an executed chunk in one
message, steps until they or the episode end, and answers in one message with the observations that
count: the last To of them, and none once the episode is over, since nobody will look at them.

An environment whose observations are costly (images) can offer two methods beside `step`, and is
then not asked to look at what nobody wants to see (they are found beneath gymnasium's TimeLimit and
OrderEnforcing too):

    advance(action) -> (reward, terminated, truncated, info)     step without looking
    observe() -> observation                                     look at the present state
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.envs.errors import DivergedError, errors_naming, not_even_new
from dipole.envs.interface import Interface, by_other_definitions
from dipole.envs.media.video import film_frame, pack_frame
from dipole.envs.rollout.kept import Keeper, KeptKeys
from dipole.envs.rollout.messages import (
    FILMING,
    MAKING,
    OBSERVATIONS,
    SIMULATION,
    Command,
    Turn,
    either,
)
from dipole.envs.rollout.stepping import Environment, EnvironmentFactory, Stepping


class Simulator:
    """One environment and the episode that it is in.

    keys: What is kept of every observation; None where episodes are not kept.
    """

    def __init__(
        self,
        environment: Environment,
        n_obs_steps: int,
        interface: Interface | None = None,
        keys: KeptKeys | None = None,
    ) -> None:
        self.environment = environment
        self._keeper = None if keys is None else Keeper(keys)
        self.n_obs_steps = n_obs_steps
        self.interface = interface or Interface()
        self._stepping = Stepping(environment, self.interface)
        self._success_told = False
        self._was_reset = False

    def perform(self, command: Command) -> Turn:
        """Start the command's episode, or step until its actions or the episode end.

        Raises DivergedError where the episode's first state is not finite.
        """
        turn = Turn(command.slot)
        if command.actions is None:
            turn.observations.append(self.start(command.seed, turn))
            self._film(turn, command, last=True)
            return turn
        unseen, last = len(command.actions) - self.n_obs_steps, len(command.actions) - 1
        for k, action in enumerate(command.actions):
            try:
                self._step(turn, action, look=k >= unseen)
            except DivergedError as error:
                turn.done, turn.diverged = True, str(error)
                if self.interface.success is not None:  # there is such a thing as success
                    turn.success = either(turn.success, False)
            else:
                self._film(turn, command, last=k == last)
            if turn.done:
                turn.observations.clear()
                turn.kept = self._keeper.episode() if self._keeper else None
                break
        return turn

    def start(self, seed: int, turn: Turn | None = None) -> dict[str, np.ndarray]:
        """Begin an episode: what is seen first. turn: Where its task and time are noted."""
        turn = turn or Turn(0)
        self._success_told = False
        first, self._was_reset = not self._was_reset, True
        with turn.timed(MAKING if first else SIMULATION):  # many load their model then
            observation, info = self._stepping.reset(seed)
            turn.task = _name(info.get("task"))
        with turn.timed(OBSERVATIONS):
            if self._keeper is not None:
                self._keeper.start(observation)
            return self.interface.observe(observation)

    def _step(self, turn: Turn, action: np.ndarray, look: bool) -> None:
        with turn.timed(SIMULATION):
            reward, terminated, truncated, info = self._stepping.advance(action)
        turn.done = terminated or truncated
        seen = None
        if (look or self._keeper is not None) and not turn.done:
            with turn.timed(OBSERVATIONS):
                seen = self._stepping.observe()
                if look:
                    turn.observations.append(self.interface.observe(seen))
        if self._keeper is not None:
            self._keeper.add(action, reward, seen)
        turn.rewards.append(reward)
        self._judge(turn, info)

    def _judge(self, turn: Turn, info: Mapping[str, Any]) -> None:
        """Note success; raises ConfigError for an episode that lacks what the task names, and for
        what is neither true nor false."""
        name, success = self.interface.judged(info)
        turn.success = either(turn.success, success)
        turn.success_at_end = success
        turn.success_name = name or turn.success_name
        for each, holds in by_other_definitions(info):
            turn.successes[each] = turn.successes.get(each, False) or holds
        if info.get("mode") is not None:
            turn.mode = str(info["mode"])
        turn.task = _name(info.get("task")) or turn.task
        self._success_told |= success is not None
        wanted = self.interface.success
        if turn.done and wanted is not None and not self._success_told:
            raise ConfigError(
                f"environment.success is {wanted!r}, and no step's info has it; the last has "
                f"{', '.join(map(str, info)) or 'nothing'}. Set it to null where there is no "
                "success: then the return decides"
            )

    def _film(self, turn: Turn, command: Command, last: bool) -> None:
        if not command.record:
            return
        filmed = turn.done or self._stepping.steps % command.stride == 0
        scene = last and command.scene
        if not filmed and not scene:
            return
        with turn.timed(FILMING):
            frame = self.environment.render()
            if filmed and self._viewed(turn, command):
                turn.frames.append(film_frame(frame, command.width))
            if scene:
                turn.scene = pack_frame(frame)

    def _viewed(self, turn: Turn, command: Command) -> bool:
        """Note what the policy would see, where that is asked for. False where it is not finite in
        a step that nobody else looks at: the episode goes on as it does without a camera."""
        if command.views:
            try:
                turn.views.append(self.interface.observe(self._stepping.observe()))
            except DivergedError:
                return False
        return True


def _name(task: Any) -> str | None:
    """A task's name; None for what an environment of somebody else calls its task."""
    return str(task) if isinstance(task, str) and task else None


class SimulatorPool:
    """Simulators by slot number, made when first used."""

    def __init__(
        self,
        make_environment: EnvironmentFactory,
        n_obs_steps: int,
        interface: Interface | None = None,
        keys: KeptKeys | None = None,
    ) -> None:
        self._make_environment = make_environment
        self._n_obs_steps = n_obs_steps
        self._interface, self._keys = interface, keys
        self._simulators: dict[int, Simulator] = {}

    def perform(self, command: Command) -> Turn:
        """Raises RolloutError, naming the episode, whatever the simulator raises."""
        with errors_naming(str(command), "the simulator raised "):
            started = time.perf_counter()
            there = self._simulators.get(command.slot)
            simulator = there or self._make(command.slot)
            making = time.perf_counter() - started
            try:
                turn = simulator.perform(command)
            except DivergedError as error:  # of a first state
                turn = self._begun_anew(command, error, again=there is not None)
            turn.seconds[MAKING] = turn.seconds.get(MAKING, 0.0) + making
            return turn

    def _begun_anew(self, command: Command, error: DivergedError, again: bool) -> Turn:
        """In a new environment, where the one that was used before cannot be reset any more."""
        if again:
            self._simulators.pop(command.slot).environment.close()
            try:
                return self._make(command.slot).perform(command)
            except DivergedError as repeated:
                error = repeated
        raise not_even_new(error) from error

    def _make(self, slot: int) -> Simulator:
        made = self._make_environment()
        simulator = Simulator(made, self._n_obs_steps, self._interface, self._keys)
        self._simulators[slot] = simulator
        return simulator

    def environment(self, slot: int) -> Environment:
        """The environment of a slot that has performed a command."""
        return self._simulators[slot].environment

    def close(self) -> None:
        for simulator in self._simulators.values():
            simulator.environment.close()
        self._simulators.clear()
