"""A run of the virtual robot with faults of all kinds, recorded."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from virtual_robot import WINDOW, VirtualRobot, run

from dipole.deploy import ControlLoop, Limits, LoopConfig, VirtualClock
from dipole.deploy.inference import PolicySpec, VirtualInference
from dipole.deploy.inference.base import WARM_UP
from dipole.deploy.recording.recorder import FlightRecorder

LIMITS = Limits((-50.0,) * 2, (50.0,) * 2, (30.0,) * 2, (200.0,) * 2)


def wandering(seed):
    rng = np.random.default_rng(seed)

    def compute(ticket, observation, known=None):
        if ticket.chunk_id % 7 == 0:
            return {"action": np.full((16, 2), np.nan)}
        return {"action": rng.normal(0, 3, (16, 2)).cumsum(0).astype(np.float32)}

    return compute


def fly(path, seconds=20.0, merger="cross_fade", delay=0.9, file=None):
    """A run with delays, lost readings, refused chunks and clamps, recorded."""
    clock, rng = VirtualClock(start=100.0), np.random.default_rng(1)
    robot = VirtualRobot(
        clock, LIMITS, look=lambda r: None if 107 < clock.now() < 108 else r,
        fault=lambda n: clock.advance(float(rng.uniform(0, 0.012))),
    )  # fmt: skip
    config = LoopConfig(
        merger=merger, control_hz=100.0, max_limited=None, max_approach=None, call_timeout=1.0
    )
    spec = PolicySpec({"x": (2,)}, 2, WINDOW, inpaints=True)

    def latency(ticket):
        return 0.0 if ticket == WARM_UP else float(rng.uniform(0, delay))

    inference = VirtualInference(spec, wandering(0), clock, latency)
    kept = FlightRecorder(path, robot.spec, config)
    if file is not None:
        kept._file = file
    loop = ControlLoop(robot, inference, config, clock=clock, log=lambda line: None, recorder=kept)
    report = run(loop, seconds)
    kept.close()
    return robot, report, kept
