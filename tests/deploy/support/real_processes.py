"""What the tests with real processes put into them: importable there, and without torch."""

import os
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from stoppers import touch
from virtual_robot import GENEROUS, WINDOW, VirtualRobot, counting, spec

from dipole.data.core.errors import ConfigError
from dipole.deploy import ControlLoop, LoopConfig, RealClock
from dipole.deploy.inference.process import ProcessInference
from dipole.deploy.types import PolicySpec

SPEC = PolicySpec({"x": (2,)}, 2, WINDOW)


def write_rows(slot, over):
    """Row n holds n, as fast as it goes."""
    number = 0
    while not over.value:
        number += 1
        slot.write(np.full(30_000, float(number)))


def quick():
    return SPEC, counting()


def slow(seconds):
    def compute(ticket, observation):
        time.sleep(seconds)
        return counting()(ticket, observation)

    return SPEC, compute


def dying(chunk_id):
    def compute(ticket, observation):
        if ticket.chunk_id == chunk_id:
            os._exit(7)
        return counting()(ticket, observation)

    return SPEC, compute


def raising(error):
    def compute(ticket, observation):
        raise error

    return SPEC, compute


def memory_hungry():
    """Chunk 2 takes more memory than this process may have."""
    import resource

    def compute(ticket, observation):
        if ticket.chunk_id == 2:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
            np.ones(2**28)
        return counting()(ticket, observation)

    return SPEC, compute


def echoing():
    """Answers with what is known."""

    def compute(ticket, observation, known=None):
        return {"action": known["values"]}

    return SPEC, compute


def refusing():
    raise ConfigError("no such checkpoint")


def wander():
    """Towards the middle of Push-T, 5 pixels an action."""

    def compute(ticket, observation):
        here = observation["agent_pos"][-1].astype(float)
        way = np.array([256.0, 256.0]) - here
        steps = np.arange(-1, 15)[:, None] + 1
        return {"action": here + 5.0 * steps * way / max(np.linalg.norm(way), 1.0)}

    return PolicySpec({"agent_pos": (2,)}, 2, WINDOW), compute


class RealRobot(VirtualRobot):
    """It is at once where it is told to be; its stop, and its stopper's, leave a file."""

    def __init__(self, folder, **options):
        super().__init__(RealClock(), **options)
        self.spec = spec(options.get("limits", GENEROUS), "m")
        self.folder = Path(folder)

    def stop(self):
        super().stop()
        touch(self.folder / "stopped")

    def stopper(self):
        return partial(touch, self.folder / "stopped_by_watchdog")


def make_real_loop(folder, factory=quick, robot=None, **settings):
    robot = robot or RealRobot(folder)
    config = LoopConfig(
        **{"max_approach": None, "max_limited": None, "max_observation_age": 1.0} | settings
    )
    return ControlLoop(robot, ProcessInference(factory), config, log=lambda line: None)
