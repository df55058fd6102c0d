"""The pilot: what is seen, and when, becomes the next action. It has no clock and no robot.

The same readings, times and answers give the same actions, which is what replaying a recording is.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dipole.data.errors import ConfigError
from dipole.deploy.config import LoopConfig
from dipole.deploy.inference import Arrays, Inference, check_fit
from dipole.deploy.limits import Floats
from dipole.deploy.mergers import make_merger
from dipole.deploy.observations import Observations
from dipole.deploy.plan import Plan
from dipole.deploy.report import Report
from dipole.deploy.robot import Reading, RobotSpec
from dipole.deploy.safety import ActionFilter
from dipole.deploy.supply import ChunkSupply


@dataclass(frozen=True)
class Decision:
    """What to do until the next one: move from start to action, both [A], or hold, and why.

    wanted: the action before the limits; clamps: which of these it met.
    """

    action: Floats | None = None
    start: Floats | None = None
    wanted: Floats | None = None
    clamps: tuple[str, ...] = ()
    hold: str = ""


class Pilot:
    """History, plan and limits of one robot, renewed by inference elsewhere.

    Raises ConfigError where robot and policy do not fit, or the robot has no limits.
    """

    def __init__(
        self,
        robot: RobotSpec,
        inference: Inference,
        config: LoopConfig,
        report: Report,
        log: Callable[[str], None],
    ) -> None:
        if robot.limits is None:
            raise ConfigError("the robot declares no limits, and nothing is moved without them")
        check_fit(robot, inference.spec)
        self._robot, self._config, self._report = robot, config, report
        merger = make_merger(config.merger, robot.action, **config.merger_options)
        if merger.inpaints and not inference.spec.inpaints:
            raise ConfigError(
                f"merger {config.merger!r} needs a policy that takes known parts of a chunk: a "
                "diffusion policy, run from its checkpoint and not from an export"
            )
        lateness = config.max_action_lateness
        self.plan = Plan(inference.spec.window, merger, dt=config.dt, max_lateness=lateness)
        self._supply = ChunkSupply(inference, self.plan, robot, config, report, log)
        self.observations = Observations(
            inference.spec,
            config.sensor_latency,
            align_to=config.align_to,
            channels=robot.observation,
        )
        self._filter = ActionFilter(robot.action, robot.limits, config.dt)

    def reset(self) -> None:
        """Forget what was seen and planned: a new epoch."""
        self._supply.reset()
        self.observations.reset()

    def first_look(self, reading: Reading | None, now: float) -> Arrays | None:
        """What the policy would be shown, to warm it up; None while there is nothing."""
        self.observations.offer(reading, now)
        if self.observations.latest is None:
            return None
        self.observations.remember()
        return self.observations.stacked()

    def decide(self, reading: Reading | None, now: float, last: Floats | None) -> Decision:
        """The next action, or a hold.

        reading: the newest, seen at time `now`; last: what was commanded last [A], None where the
        robot was not moving. Raises InferenceDied.
        """
        self.observations.offer(reading, now)
        age = self.observations.age(now)
        if age > self._config.max_observation_age:
            self._supply.reset()  # the plan was made for a world that is no longer seen
            self.observations.forget()
            return Decision(hold=f"the newest observation is {age:.2f} s old")
        self._report.sample("observation_age", age)
        self.observations.remember()
        self._supply.receive(now)
        if self._supply.ask(self.observations, now):
            self._supply.receive(now)  # an answer without delay counts for this action already
        wanted = self.plan.pop(now)
        if wanted is None:
            self._report.counts["starved"] += self._report.counts["actions"] > 0
            reason = self._supply.refusal or "no action: the next chunk has not arrived"
            return Decision(hold=reason)
        return self._limited(wanted, last)

    def _limited(self, wanted: Floats, last: Floats | None) -> Decision:
        if last is None:  # limits are relative to where the robot is seen to rest
            last = self._robot.still(self.observations.newest)
            self._filter.reset(last)
        self._filter.commanded(last)
        filtered = self._filter(wanted)
        self._report.acted(filtered.action, filtered.clamps, self._config.dt)
        return Decision(filtered.action, last, wanted, filtered.clamps)
