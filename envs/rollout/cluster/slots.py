"""Simulator slots in actors of a Ray cluster.

A slot is in one actor for an episode, and in whichever has least to do for the next. Where an actor
dies, with its machine or alone, the episodes that it had are begun again elsewhere (`Turn.lost`).
"""

import time
from typing import Any

from dipole.data.core.errors import DipoleError
from dipole.envs.rollout.cluster.actors import Actor, ActorGroup
from dipole.envs.rollout.messages import Command, Turn
from dipole.envs.rollout.simulator import SimulatorPool


class SimulatorProcess:
    """What an actor does: see SimulatorPool."""

    def __init__(self, *making: Any) -> None:
        self._pool = SimulatorPool(*making)

    def ping(self) -> None:
        """It is there."""

    def perform(self, command: Command) -> Turn | DipoleError:
        """The turn, or the error that stopped it."""
        try:
            return self._pool.perform(command)
        except DipoleError as error:
            # Its cause stays here: a simulator's own exception may not survive the journey.
            return type(error)(str(error))

    def close(self) -> None:
        self._pool.close()


class RaySlots:
    """Slots spread over `actors` processes of a cluster, as `Slots` says.

    ray: The module, connected. slots: How many, of which each actor has its share, so that one that
    starts later is left some. patience: Seconds. making: As SimulatorPool takes it.
    A simulator that raises is a RolloutError, as is an episode in which three actors died.
    """

    def __init__(self, ray: Any, actors: int, slots: int, patience: float, *making: Any) -> None:
        remote, stored = ray.remote(SimulatorProcess), [ray.put(each) for each in making]
        self._group = ActorGroup(
            ray,
            lambda options: remote.options(**options).remote(*stored),
            actors,
            {"num_cpus": 1},
            "simulator",
        )
        self._patience, self._share = patience, -(-slots // actors)
        self._home: dict[int, Actor] = {}  # of each slot, for the episode it is in
        self._unplaced: list[Command] = []  # that begin episodes, for which no actor has room
        self._lost: list[Turn] = []
        self._count = actors
        self.waited = 0.0

    @property
    def busy(self) -> int:
        waiting = 0 if self._group.ready else len(self._unplaced)
        return self._group.busy + waiting + len(self._lost)

    @property
    def workers(self) -> int:
        return self._count

    @property
    def idle(self) -> bool:
        return any(not actor.sent for actor in self._group.ready)

    @property
    def deaths(self) -> int:
        """Actors that died."""
        return self._group.deaths

    def send(self, command: Command) -> None:
        if command.actions is None:
            self._begin(command)
            return
        home = self._home[command.slot]
        if home in self._group.actors:
            self._group.send(home, command)
        else:  # it died while the slot waited for a chunk
            self._lost.append(Turn(command.slot, lost=True))

    def collect(self) -> list[Turn]:
        turns, self._lost = self._lost, []
        if turns or not self.busy:
            return turns
        started = time.perf_counter()
        events = self._group.wait(None if self._group.ready else self._patience)
        self.waited += time.perf_counter() - started
        for event in events:
            if isinstance(stopped := event.given_up or event.answer, DipoleError):
                raise stopped
            if event.error is not None:
                turns += [Turn(command.slot, lost=True) for command in event.actor.sent]
            elif event.work is not None:
                turns.append(event.answer)
                if event.answer.done:
                    self._home.pop(event.work.slot, None)
        waiting, self._unplaced = self._unplaced, []
        for command in waiting:
            self._begin(command)
        return turns

    def wake(self) -> None:
        self._group.wake()

    def close(self) -> None:
        self._group.close()

    def _begin(self, command: Command) -> None:
        """In the actor with the fewest episodes."""
        self._home.pop(command.slot, None)
        episodes = list(self._home.values())
        actor = min(self._group.ready, key=episodes.count, default=None)
        if actor is None or episodes.count(actor) >= self._share:
            self._unplaced.append(command)
            return
        self._home[command.slot] = actor
        self._group.send(actor, command)
