"""Motion: from actions at the policy's rate to commands at the command rate.

    actions     a               b              decided by the executor, or none: HOLD
    reference   r1  r2  r3  r4  r5  r6 ...     interpolated
    commands    c1  c2  c3  c4  c5  c6 ...     filtered

It has no clock and no robot: the same calls give the same commands, which is what replaying a
recording is.
"""

from dipole.deploy.chunks.interpolation import Interpolation
from dipole.deploy.loop.config import ResolvedLoopConfig
from dipole.deploy.robots.robot import RobotSpec
from dipole.deploy.safety.command_filter import Command, CommandFilter
from dipole.deploy.types import Floats


class Motion:
    """The commands of one robot.

    started: whether there is a setpoint, so that commands can be given. approaching: whether the
    first action after a start or a hold has not been reached yet. limited_for: seconds for which
    commands have been further behind the actions than one of them lasts, or these lay outside the
    box of a position; holds in between do not count.
    """

    def __init__(self, robot: RobotSpec, config: ResolvedLoopConfig) -> None:
        self._config = config
        self._filter = CommandFilter(robot.action, config.period)
        self._between = Interpolation(robot.action, config.steps, config.interpolation)
        self.reset()

    def reset(self) -> None:
        """Nothing is known of where the robot is."""
        self.started = self.following = self.approaching = False
        self.limited_for = 0.0
        self._last: Floats | None = None

    def start(self, measured: Floats) -> None:
        """The robot rests at `measured` [A]. Raises OutsideLimits."""
        self._filter.reset(measured)
        self._last = measured
        self.started, self.following = True, False

    def follow(self, action: Floats, following: Floats | None = None) -> None:
        """Go to an action [A] within one action's time; following: the one after it."""
        assert self._last is not None, "start() comes first"
        if not self.following:
            self._between.start(self._last)
            self.following = True
            self.approaching = self.approaching or not self.limited_for
        self._between.aim(action, following)

    def hold(self) -> None:
        """Brake, and stay. What was limited before stays so: a hold is no sign of following."""
        self.following = False

    def next(self, missed: int = 0) -> Command:
        """The next command; missed: slots since the last one in which none was sent."""
        if self.stands(missed):
            self._filter.rest()
        command = self._filter.step(self._between.next() if self.following else None)
        self._last = command.values
        if self.following:
            self._watch(command)
        return command

    def stands(self, missed: int) -> bool:
        """Whether what is controlled by position stands still after so many missed slots."""
        return missed > self._config.max_missed

    @property
    def at_rest(self) -> bool:
        return not self.started or self._filter.at_rest

    @property
    def stopping_seconds(self) -> float:
        """How long a braking ramp takes at most."""
        return self._filter.stopping_seconds

    def _watch(self, command: Command) -> None:
        limited = command.behind > self._config.dt or command.outside
        if limited:
            self.limited_for += self._config.period
        elif self._between.arrived:  # at an action, and not somewhere on the way to one
            self.limited_for, self.approaching = 0.0, False
