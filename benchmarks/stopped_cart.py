"""The cart of stop_by_signal.py, and its run: commanded velocities, it drives on unless stopped."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data import WindowSpec
from dipole.deploy import ActionSpec, Channel, Limits, LoopConfig, Reading, Robot, RobotSpec
from dipole.deploy.inference.base import Compute
from dipole.deploy.inference.process import ProcessInference
from dipole.deploy.loop.run import RunConfig, run_policy
from dipole.deploy.types import PolicySpec

SPEED, ACCELERATION, JERK = 0.5, 1.0, 20.0  # of commands: m/s, m/s2, m/s3
CRUISE = 0.4  # m/s, what the policy wants
BRAKES = 2.0  # m/s2, of the cart's own when it is stopped
ROWS = 10_000


@dataclass(frozen=True)
class Terms:
    """call_timeout and watchdog, in seconds, as of `dipole deploy`."""

    call_timeout: float = 0.1
    watchdog: float = 0.5

    @property
    def loop(self) -> LoopConfig:
        """Nothing but the event shall end a run: not an old reading, not a clamp."""
        return LoopConfig(
            policy_hz=10.0,
            control_hz=100.0,
            call_timeout=self.call_timeout,
            max_observation_age=5.0,
            max_action_lateness=5.0,
            max_limited=None,
            max_approach=None,
        )


# The robot ----------------------------------------------------------------------------------------


class Cart(Robot):
    """Writes what it is told to files in a folder of shared memory."""

    spec = RobotSpec(
        observation={"bumper": Channel((2,))},
        action=ActionSpec(("x", "y"), unit="m/s", kind="twist"),
        limits=Limits((-SPEED,) * 2, (SPEED,) * 2, (ACCELERATION,) * 2, (JERK,) * 2),
    )

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows = np.memmap(folder / "commands", np.float64, "r+", shape=(ROWS, 3))
        self._count = 0

    def connect(self) -> None:
        pass

    def observe(self) -> Reading:
        return Reading(time.monotonic(), {"bumper": np.zeros(2, np.float32)})

    def command(self, action: np.ndarray) -> None:
        self._rows[self._count] = (time.monotonic(), *action)
        self._count += 1

    def hold(self) -> None:
        self.command(np.zeros(2))

    def stop(self) -> None:
        note(self._folder / "stopped_by_loop")

    def stopper(self) -> Callable[[], None]:
        return partial(note, self._folder / "stopped_by_watchdog")

    def close(self) -> None:
        pass


def note(path: Path) -> None:
    """Append the time to a file."""
    with path.open("a") as file:
        file.write(f"{time.monotonic()!r}\n")


def speeds(commands: np.ndarray, stopped: float, until: float) -> tuple[np.ndarray, np.ndarray]:
    """Times [T] and speeds [T] of the cart at 1 kHz: as commanded, braking from `stopped` on."""
    times = np.arange(commands[0, 0], until, 1e-3)
    newest = np.searchsorted(commands[:, 0], times, side="right") - 1
    speed = np.linalg.norm(commands[newest, 1:], axis=1)
    begun = times >= stopped
    if begun.any():
        speed[begun] = np.maximum(0.0, speed[begun][0] - BRAKES * (times[begun] - stopped))
    return times, speed


# The program of a trial ---------------------------------------------------------------------------


def cruise() -> tuple[PolicySpec, Compute]:
    """A policy that wants the same velocity for ever."""
    window = WindowSpec(n_obs_steps=2, horizon=16, n_action_steps=8)

    def compute(_ticket: Any, _observation: Any) -> dict[str, np.ndarray]:
        return {"action": np.tile([CRUISE, 0.0], (16, 1))}

    return PolicySpec({"bumper": (2,)}, 2, window), compute


def program(folder: Path, terms: Terms) -> None:
    """What runs on the terminal."""

    def make_inference() -> ProcessInference:
        inference = ProcessInference(cruise)
        (folder / "inference").write_text(str(inference.pid))
        return inference

    config = RunConfig(
        terms.loop, seconds=120.0, arm="now", watchdog=terms.watchdog, output=folder, record=False
    )
    run_policy(Cart(folder), make_inference, config)
