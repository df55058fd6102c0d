"""Ruckig as the engine of the command filter for joints, beside ours: limits, tracking, cost.

    pip install ruckig          # no dependency of dipole; 0.19.4 was measured
    python benchmarks/ruckig_filter.py --runs 500

Ruckig (Berscheid and Kröger, 2021) computes time-optimal trajectories to a target position and
velocity; here anew for each command, with a minimum duration of one period. Both engines go through
the same generated runs as safe_commands.py, with robots of joints and grippers only; through the
same feasible moving reference; and are timed on seven joints with a target that jumps.
"""

import argparse
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dipole.deploy.robots.groups import ActionGroup
from dipole.deploy.safety import command_filter
from dipole.deploy.safety.command_filter import Command, MotionFilter, OutsideLimits
from dipole.deploy.safety.limits import Limits
from dipole.deploy.types import Floats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "deploy" / "support"))

from random_runs import one_run
from simulated_arm import Figures

JOINTS = ("arm", "other_arm", "gripper", "wheel")  # groups without rotations and velocities
ERRORS: Counter[str] = Counter()  # of Ruckig, by its name
JERK_TIME = 0.05  # seconds in which the acceleration is reached, with a limit of jerk


class RuckigFilter:
    """As MotionFilter, for groups of positions without a rotation.

    jerk: whether jerk is limited as well. synchronization: "Phase", "Time" or "No".
    """

    def __init__(
        self, group: ActionGroup, dt: float, jerk: bool = False, synchronization: str = "Phase"
    ) -> None:
        import ruckig

        assert group.limits is not None
        self._ruckig, self._dt, limits = ruckig, dt, group.limits
        endless = group.periods > 0
        self._periods = group.periods
        self._low = np.where(endless, -np.inf, limits.array("low"))
        self._high = np.where(endless, np.inf, limits.array("high"))
        self._speed, self._acceleration = limits.array("velocity"), limits.array("acceleration")
        self._engine = ruckig.Ruckig(group.size, dt)
        self._input = ruckig.InputParameter(group.size)
        self._output = ruckig.OutputParameter(group.size)
        self._input.min_position, self._input.max_position = self._low.tolist(), self._high.tolist()
        self._input.max_velocity = self._speed.tolist()
        self._input.max_acceleration = self._acceleration.tolist()
        if jerk:
            self._input.max_jerk = (self._acceleration / JERK_TIME).tolist()
        self._input.synchronization = getattr(ruckig.Synchronization, synchronization)
        self._input.minimum_duration = dt

    def reset(self, start: Floats) -> None:
        inside = np.clip(start, self._low, self._high)
        if (np.abs(inside - start) > self._speed * self._dt).any():
            raise OutsideLimits("outside")
        self._entering = bool((inside != start).any())
        self._x = self._aim = inside
        self.rest()

    def rest(self) -> None:
        self._input.current_position = self._x.tolist()
        self._input.current_velocity = [0.0] * len(self._x)
        self._input.current_acceleration = [0.0] * len(self._x)
        self._aim, self._moved, self._last_move = self._x, False, np.zeros_like(self._x)

    @property
    def at_rest(self) -> bool:
        return not self._moved and not any(self._input.current_velocity)

    @property
    def stopping_seconds(self) -> float:
        return float((self._speed / self._acceleration).max()) + 4 * JERK_TIME + 3 * self._dt

    def step(self, reference: Floats | None) -> Command:
        if self._entering:
            self._entering = False
            return Command(self._x.copy(), ("position",))
        if reference is None or not np.isfinite(reference).all():
            self._brake()
            self._aim = self._x
            return Command(self._x.copy())
        turn = np.where(self._periods > 0, self._periods, 1.0)
        turns = np.where(self._periods > 0, np.round((self._x - reference) / turn), 0.0)
        aim = np.clip(reference + turns * turn, self._low, self._high)
        # The velocity at this moment, half a period after the mean one: extrapolated.
        move = aim - self._aim
        velocity = (1.5 * move - 0.5 * self._last_move) / self._dt
        velocity = np.clip(velocity, -self._speed, self._speed)
        # A target from which it could not stop before the edge is none.
        velocity = np.clip(velocity, -np.sqrt(2 * self._acceleration * (aim - self._low)),
                           np.sqrt(2 * self._acceleration * (self._high - aim)))  # fmt: skip
        self._aim, self._last_move = aim, move
        parameters = self._input
        parameters.control_interface = self._ruckig.ControlInterface.Position
        parameters.target_position, parameters.target_velocity = aim.tolist(), velocity.tolist()
        self._update()
        return Command(
            self._x.copy(), behind=float((np.abs(aim - self._x) / self._speed).max(initial=0.0))
        )

    def _brake(self) -> None:
        self._input.control_interface = self._ruckig.ControlInterface.Velocity
        self._input.target_velocity = [0.0] * len(self._x)
        self._update()

    def _update(self) -> None:
        before = self._x
        try:
            result = self._engine.update(self._input, self._output)
            error = str(result) if result < 0 else ""
        except (ValueError, self._ruckig.RuckigError) as raised:  # -101: longer than 7,600 s
            error = str(raised) or "RuckigError"
        if not error:
            self._output.pass_to_input(self._input)
            self._x = np.array(self._output.new_position)
        elif self._input.control_interface == self._ruckig.ControlInterface.Position:
            ERRORS[error] += 1
            self._brake()
        self._moved = bool((self._x != before).any())


Factory = Callable[[ActionGroup, float], Any]


def engines() -> dict[str, Factory]:
    """The engines that are compared, by name."""
    return {
        "ours": MotionFilter,
        "ruckig, phase": RuckigFilter,
        "ruckig, time": lambda group, dt: RuckigFilter(group, dt, synchronization="Time"),
        "ruckig, phase, jerk": lambda group, dt: RuckigFilter(group, dt, jerk=True),
    }


def property_of(make: Factory, runs: int) -> tuple[int, int, Figures]:
    """How many generated runs left their limits, in how many the engine failed (these are not
    counted among the first), and figures of those where it did not."""
    ours = command_filter.MotionFilter
    command_filter.MotionFilter = make  # type: ignore[assignment, misc]
    figures, left, failed = Figures(), 0, 0
    try:
        for number in range(runs):
            errors = ERRORS.total()
            found = one_run(random.Random(number), JOINTS).figures
            if ERRORS.total() > errors:
                failed += 1
                continue
            left += bool(found.problems)
            figures.add(found)
    finally:
        command_filter.MotionFilter = ours  # type: ignore[misc]
    return left, failed, figures


def seven_joints() -> ActionGroup:
    limits = Limits((-2.8,) * 7, (2.8,) * 7, (1.0,) * 7, (4.0,) * 7)
    names = tuple(f"j{i}" for i in range(7))
    return ActionGroup("arm", "joint_position", names, "rad", measured_by="q", limits=limits)


def tracking(make: Factory) -> float:
    """Largest error [rad] behind sines of half the limits at 100 Hz, two seconds after a start."""
    engine = make(seven_joints(), 0.01)
    engine.reset(np.zeros(7))
    worst = 0.0
    for k in range(1, 1000):
        reference = 0.125 * np.sin(4.0 * 0.01 * k + np.arange(7))  # 0.5 rad/s, 2 rad/s2
        error = np.abs(engine.step(reference).values - reference).max()
        worst = max(worst, float(error)) if k > 200 else 0.0
    return worst


def cost(make: Factory, commands: int = 5000) -> tuple[float, float]:
    """Processor time of a command, µs: median, p99. 7 joints, a target that jumps every 0.1 s."""
    engine, rng = make(seven_joints(), 0.01), np.random.default_rng(0)
    engine.reset(np.zeros(7))
    taken = []
    for k in range(commands):
        if k % 10 == 0:
            goal = rng.uniform(-2.8, 2.8, 7)
        started = time.thread_time()
        engine.step(goal)
        taken.append(time.thread_time() - started)
    median, p99 = 1e6 * np.quantile(taken, [0.5, 0.99])
    return float(median), float(p99)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    options = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)
    for name, make in engines().items():
        ERRORS.clear()
        left, failed, figures = property_of(make, options.runs)
        median, p99 = cost(make)
        print(f"{name}: {left} of {options.runs - failed} runs left their limits, "
              f"{figures.commands} commands; the engine failed in {failed} more")  # fmt: skip
        relative = f"velocity {figures.velocity:.6f}, acceleration {figures.acceleration:.6f}"
        print(f"    {relative} of their limits")
        print(f"    tracking error {tracking(make):.2g} rad")
        print(f"    {median:.0f} µs a command, p99 {p99:.0f}")
        print(f"    errors of the engine: {dict(ERRORS) or 'none'}", flush=True)
        kinds = Counter(_kind(problem) for problem in figures.problems)
        for kind, count in kinds.most_common(4):
            print(f"    {count} times: {kind}")


def _kind(problem: str) -> str:
    """A problem without its numbers."""
    return " ".join(word for word in problem.split() if not any(c.isdigit() for c in word))


if __name__ == "__main__":
    main()
