"""The pilot: what is seen, and when, becomes the next action. It has no clock and no robot.

The same readings, times and answers give the same actions, which is what replaying a recording is.
"""

from collections.abc import Callable

from dipole.data.errors import ConfigError
from dipole.deploy.chunks.action_queue import ChunkQueue
from dipole.deploy.chunks.blending import make_merger
from dipole.deploy.chunks.replanner import Replanner
from dipole.deploy.inference.base import Inference
from dipole.deploy.loop.config import LoopConfig
from dipole.deploy.loop.report import Report
from dipole.deploy.observations.buffer import ObservationBuffer
from dipole.deploy.robots.fit import check_fit
from dipole.deploy.robots.robot import Reading, RobotSpec
from dipole.deploy.safety.command_filter import ActionFilter
from dipole.deploy.types import Arrays, Decision, Floats


class RecedingHorizon:
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
        report.notes += check_fit(robot, inference.spec, config.accept_mismatch, config.policy_hz)
        self._robot, self._config, self._report = robot, config, report
        merger = make_merger(config.merger, robot.action, **config.merger_options)
        if merger.inpaints and not inference.spec.inpaints:
            raise ConfigError(
                f"merger {config.merger!r} needs a policy that takes known parts of a chunk: a "
                "diffusion policy, run from its checkpoint and not from an export"
            )
        lateness = config.max_action_lateness
        self.plan = ChunkQueue(inference.spec.window, merger, dt=config.dt, max_lateness=lateness)
        self._supply = Replanner(inference, self.plan, robot, config, report, log)
        self.observations = ObservationBuffer(
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
        self.observations.update(reading, now)
        if self.observations.latest is None:
            return None
        self.observations.push()
        return self.observations.stacked()

    def decide(self, reading: Reading | None, now: float, last: Floats | None) -> Decision:
        """The next action, or a hold.

        reading: the newest, seen at time `now`; last: what was commanded last [A], None where the
        robot was not moving. Raises InferenceDied.
        """
        self.observations.update(reading, now)
        age = self.observations.age(now)
        if age > self._config.max_observation_age:
            self._supply.reset()  # the plan was made for a world that is no longer seen
            self.observations.clear()
            return Decision(hold=f"the newest observation is {age:.2f} s old")
        self._report.sample("observation_age", age)
        self.observations.push()
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
