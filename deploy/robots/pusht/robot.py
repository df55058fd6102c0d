"""A simulated robot: Push-T in a process of its own, stepped by the wall clock at 100 Hz."""

import multiprocessing
import os
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from dipole.data.core.errors import DipoleError
from dipole.deploy.loop.clock import Clock
from dipole.deploy.robots.channel import Channel
from dipole.deploy.robots.groups import ActionSpec
from dipole.deploy.robots.pusht.shared_memory import SharedSlot
from dipole.deploy.robots.pusht.world import PHYSICS_HZ, PushTWorld, WorldConfig
from dipole.deploy.robots.robot import Reading, Robot, RobotSpec
from dipole.deploy.safety.signals import ignore_terminal_signals
from dipole.deploy.types import Floats
from dipole.envs.pusht.environment import PushT

START_SECONDS = 30.0
GRACE_SECONDS = 2.0
COMMAND, HOLD = 1.0, 2.0
PIXELS = ("keypoint", "agent_pos")  # observations in pixels; a state also holds an angle


def pusht_spec(config: WorldConfig) -> RobotSpec:
    """What the simulated robot sees and does. Its limits are the user's to give."""
    spaces = PushT(observation=config.observation).observation_space
    channels = {
        name: Channel(tuple(space.shape), str(space.dtype), "px" if name in PIXELS else "")
        for name, space in spaces.spaces.items()  # type: ignore[attr-defined]
    }
    return RobotSpec(channels, ActionSpec(("x", "y"), unit="px", measured_by="agent_pos"))


class SimPushT(Robot):
    """Push-T that goes on whether or not a command comes, as a robot's world does.

    Commands and readings pass through shared memory, so that neither side ever waits for the other.
    options: see WorldConfig.
    """

    def __init__(self, **options: Any) -> None:
        self.config = WorldConfig(**options)
        self.spec = pusht_spec(self.config)
        self._context = multiprocessing.get_context("spawn")
        self._layout = _Layout(self.spec)
        self._readings = SharedSlot(self._layout.size, self._context)
        self._commands = SharedSlot(3, self._context)
        self._stop = self._context.RawValue("b", 0)
        self._over = self._context.RawValue("b", 0)
        self._process: Any = None

    def connect(self) -> None:
        """Start the world. Raises DipoleError where it does not start."""
        self._stop.value = self._over.value = 0
        self._process = self._context.Process(
            target=_simulate,
            args=(self.config, self._readings, self._commands, self._stop, self._over, os.getpid()),
            daemon=True,
        )
        self._process.start()
        deadline = time.monotonic() + START_SECONDS
        while self._readings.read() is None:
            if time.monotonic() > deadline or not self._process.is_alive():
                raise DipoleError("the simulated Push-T did not start; its message stands above")
            time.sleep(0.01)

    def observe(self) -> Reading | None:
        found = self._readings.read()
        # Not is_alive(): two threads that ask for an exit code at once may both lose it.
        if self._process is None or wait([self._process.sentinel], 0):
            raise DipoleError("the simulated Push-T has ended")
        return None if found is None else self._layout.unpack(found[1])

    def command(self, action: Floats) -> None:
        self._commands.write(np.array([COMMAND, *action]))

    def hold(self) -> None:
        self._commands.write(np.array([HOLD, 0.0, 0.0]))

    def stop(self) -> None:
        self._stop.value = 1

    def close(self) -> None:
        if self._process is None:
            return
        self._over.value = 1
        self._process.join(GRACE_SECONDS)
        if self._process.exitcode is None:
            self._process.terminate()

    def stopper(self) -> Callable[[], None]:
        return partial(_raise_flag, self._stop)

    def result(self) -> dict[str, float]:
        """How the task went: the best reward so far."""
        found = self._readings.read()
        return {} if found is None else {"max_reward": float(found[1][1])}


class VirtualPushT(Robot):
    """The same world on a clock that tests turn; see WorldConfig for the options."""

    def __init__(self, clock: Clock, **options: Any) -> None:
        self.config = WorldConfig(**options)
        self.spec = pusht_spec(self.config)
        self._clock = clock
        self._held = False

    def connect(self) -> None:
        self.plant = PushTWorld(self.config, self._clock.now())

    def observe(self) -> Reading | None:
        self.plant.advance(self._clock.now())
        return self.plant.observe(self._clock.now())

    def command(self, action: Floats) -> None:
        self.plant.advance(self._clock.now())
        self.plant.command(action, self._clock.now())
        self._held = False

    def hold(self) -> None:
        if not self._held:
            self.plant.advance(self._clock.now())
            self.plant.hold(self._clock.now())
        self._held = True

    def stop(self) -> None:
        self.hold()

    def close(self) -> None:
        pass


class _Layout:
    """How a reading is written as a row of numbers: time, best reward, and the values in order."""

    def __init__(self, spec: RobotSpec) -> None:
        self._channels = dict(spec.observation)
        self.size = 2 + sum(int(np.prod(c.shape)) for c in self._channels.values())

    def pack(self, reading: Reading, max_reward: float) -> Floats:
        values = [np.ravel(reading.values[name]) for name in self._channels]
        return np.concatenate([[reading.time, max_reward], *values]).astype(np.float64)

    def unpack(self, row: Floats) -> Reading:
        values, start = {}, 2
        for name, channel in self._channels.items():
            stop = start + int(np.prod(channel.shape))
            values[name] = row[start:stop].reshape(channel.shape).astype(channel.dtype)
            start = stop
        return Reading(float(row[0]), values)


def _raise_flag(flag: Any) -> None:
    flag.value = 1


def _simulate(
    config: WorldConfig,
    readings: SharedSlot,
    commands: SharedSlot,
    stop: Any,
    over: Any,
    owner: int,
) -> None:
    """The process's life: the world, at its rate, until it is over or its owner is gone."""
    ignore_terminal_signals()  # the loop answers them
    plant = PushTWorld(config, time.monotonic())
    layout = _Layout(pusht_spec(config))
    version, kind, step, started = 0, 0.0, 0, time.monotonic()
    while not over.value and os.getppid() == owner:
        now = time.monotonic()
        plant.advance(now)
        if (reading := plant.observe(now)) is not None:
            readings.write(layout.pack(reading, plant.max_reward))
        sent = commands.read()
        if stop.value:
            kind = _hold_once(plant, kind, now)
        elif sent is not None and sent[0] != version:
            version = sent[0]
            if sent[1][0] == COMMAND:
                kind = COMMAND
                plant.command(sent[1][1:], now)
            else:
                kind = _hold_once(plant, kind, now)
        step = max(step + 1, int((time.monotonic() - started) * PHYSICS_HZ))
        time.sleep(max(0.0, started + step / PHYSICS_HZ - time.monotonic()))


def _hold_once(plant: PushTWorld, kind: float, now: float) -> float:
    """Hold where the agent is when holding begins, not where it creeps to meanwhile."""
    if kind != HOLD:
        plant.hold(now)
    return HOLD
