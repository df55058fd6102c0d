"""What the control loop needs of a robot: a class of about 40 lines, and its declaration.

    class Arm(Robot):
        spec = RobotSpec(
            observation={"joints": Channel((6,), unit="rad")},
            action=ActionSpec(("j1", "j2", "j3", "j4", "j5", "j6"), unit="rad",
                              measured_by="joints"),
            limits=Limits(low=(-2.8,) * 6, high=(2.8,) * 6,
                          velocity=(1.0,) * 6, acceleration=(4.0,) * 6),
        )

        def connect(self):
            self.driver = mydriver.Driver("192.168.1.10")
            self.setpoint = None                     # nothing was sent yet

        def observe(self):
            sample = self.driver.latest()            # must not wait for the next one
            return None if sample is None else Reading(sample.time, {"joints": sample.positions})

        def command(self, action):
            self.driver.servo(action)
            self.setpoint = action

        def hold(self):
            pass                                     # a position controller keeps its setpoint

        def stop(self):                              # velocity control: command zero here
            if self.setpoint is not None:
                self.driver.servo(self.setpoint)

        def close(self):
            self.driver.disconnect()

Times are seconds of `time.monotonic()`, taken when the sensor measured, not when it was read.
Nothing here is a certified emergency stop: the hardware's, and the controller's own limits, stay in
charge.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dipole.deploy.robots.channel import Channel
from dipole.deploy.robots.groups import ActionSpec
from dipole.deploy.robots.measurement import check_measurement, in_measured_units
from dipole.deploy.safety.limits import Limits
from dipole.deploy.types import Floats


@dataclass(frozen=True)
class RobotSpec:
    """What a robot sees, does and allows. Without limits the loop refuses to start.

    observation: channels by name. action: its groups. limits: of all numbers of an action; None
    where each group has its own.
    """

    observation: Mapping[str, Channel]
    action: ActionSpec
    limits: Limits | None = None

    def __post_init__(self) -> None:
        if self.limits is not None:
            object.__setattr__(self, "action", self.action.with_limits(self.limits))
        for group in self.action.groups:
            check_measurement(group, self.observation)
        groups = tuple(in_measured_units(group, self.observation) for group in self.action.groups)
        if groups != self.action.groups:
            object.__setattr__(self, "action", ActionSpec.of(*groups))

    @property
    def without_limits(self) -> tuple[str, ...]:
        """The groups that may move without any limit."""
        groups = self.action.groups
        return tuple(g.name for g in groups if g.limits is None and not g.is_discrete)

    @property
    def measured_by(self) -> tuple[str, ...]:
        """The observations that measure what actions set."""
        return tuple(dict.fromkeys(g.measured_by for g in self.action.groups if g.measured_by))

    def measured(self, observation: Mapping[str, NDArray[Any]]) -> Floats:
        """The action [A] at which the robot is, by what is observed."""
        return np.concatenate([group.measured(observation) for group in self.action.groups])


@dataclass(frozen=True)
class Reading:
    """What the sensors saw.

    time: Of capture, seconds of time.monotonic().
    values: {name: [*shape]}.
    times: Of entries that were captured at another time, by name.
    problems: What is wrong with a sensor, {name: text}; a hold's reason says it.
    immutable: Whether nobody will write into these arrays again; others are copied.
    """

    time: float
    values: Mapping[str, NDArray[Any]]
    times: Mapping[str, float] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    immutable: bool = False


class Robot(ABC):
    """A robot. Methods return at once; one that raises, or takes too long, is a fault.

    `spec` is an attribute of the class or the object.
    """

    spec: RobotSpec

    @abstractmethod
    def connect(self) -> None:
        """Open the connection. Nothing may move."""

    @abstractmethod
    def observe(self) -> Reading | None:
        """The newest reading, without waiting for a newer one; None where there never was one."""

    @abstractmethod
    def command(self, action: Floats) -> None:
        """Send an action [A]; it has passed all limits."""

    @abstractmethod
    def hold(self) -> None:
        """Stay where you are: in every slot of a run that has sent no command yet.

        Afterwards HOLD is commanded: a braking ramp, then the same setpoint again and again.
        """

    @abstractmethod
    def stop(self) -> None:
        """Stop, and expect no more: by the last setpoint again, or zero where velocities are set.

        Called from any thread, after the braking ramp, or after a fault without one; a second time
        where a command came back only after the first.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connection; stop() has been called. It is waited for 10 s.

        Also called after a connect() that raised: it closes what had been opened, and switches off
        what had been switched on.
        """

    def result(self) -> dict[str, float]:
        """How the task went, for the report, if the robot knows; called once, before `close`."""
        return {}

    def stopper(self) -> Callable[[], None] | None:
        """What stops the robot from another process, for the watchdog: a function that can be sent
        there, with a connection of its own. It is called until it returns, and its effect has to
        last. None: the watchdog cannot help this robot."""
        return None
