"""A dry run: the robot's own sensors, and nothing that moves."""

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dipole.deploy.robots.groups import ActionSpec
from dipole.deploy.robots.robot import Reading, Robot, RobotSpec
from dipole.deploy.types import Floats

LOGGER = logging.getLogger("dipole.deploy")


class DryRun(Robot):
    """A robot whose commands are shown and kept instead of sent.

    show: Called on the control thread with every `every`-th command and each change between moving
        and holding. It may not wait; the default leaves the line to the logger "dipole.deploy".
    commands: What would have been sent, in order.
    """

    def __init__(
        self,
        robot: Robot,
        show: Callable[[str], None] = LOGGER.info,
        every: int = 100,
    ) -> None:
        self.spec = _without_deviation(robot.spec)
        self.commands: list[Floats] = []
        self._robot = robot
        self._show = show
        self._every = every
        self._doing = ""

    def connect(self) -> None:
        self._robot.connect()

    def observe(self) -> Reading | None:
        return self._robot.observe()

    def command(self, action: Floats) -> None:
        if self._doing != "command" or len(self.commands) % self._every == 0:
            spec = self.spec.action
            named = zip(spec.names, action, spec.units, strict=True)
            words = ", ".join(f"{name} {value:.4g} {unit}".rstrip() for name, value, unit in named)
            self._show(f"dry run: would send {words}")
        self._doing = "command"
        self.commands.append(np.array(action))

    def hold(self) -> None:
        self._change("hold")

    def stop(self) -> None:
        self._change("stop")

    def close(self) -> None:
        self._robot.close()

    def result(self) -> dict[str, float]:
        return self._robot.result()

    def _change(self, doing: str) -> None:
        if self._doing != doing:
            self._show(f"dry run: would {doing}")
        self._doing = doing


def _without_deviation(spec: RobotSpec) -> RobotSpec:
    """The same without max_deviation: nothing follows commands that are not sent."""
    groups = (
        replace(group, limits=group.limits and replace(group.limits, max_deviation=None))
        for group in spec.action.groups
    )
    return replace(spec, action=ActionSpec.of(*groups), limits=None)
