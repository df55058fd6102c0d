"""Receding-horizon executor: readings and times become the next action.

It has no clock and no robot: the same readings, times and answers give the same actions, which is
what replaying a recording is.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.deploy.chunks.action_queue import ChunkQueue
from dipole.deploy.chunks.blending import make_merger
from dipole.deploy.chunks.replanner import Replanner
from dipole.deploy.inference.base import Inference
from dipole.deploy.loop.config import ResolvedLoopConfig
from dipole.deploy.loop.report import Report
from dipole.deploy.observations.buffer import ObservationBuffer
from dipole.deploy.robots.action_math import nearest_equal
from dipole.deploy.robots.fit import check_fit, unknown_angles
from dipole.deploy.robots.robot import Reading, RobotSpec
from dipole.deploy.safety.chunk_checks import RefusedAction, check_chunk
from dipole.deploy.types import Arrays, Decision, Floats, KnownActions

NEVER = 1e6  # seconds


class RecedingHorizon:
    """Observation history and action queue of one robot, filled by inference elsewhere.

    after: the queue of the run before, whose chunks may still be on their way.
    Raises ConfigError where robot and policy do not fit, or the robot has no limits.
    """

    def __init__(
        self,
        robot: RobotSpec,
        inference: Inference,
        config: ResolvedLoopConfig,
        report: Report,
        log: Callable[[str], None],
        after: ChunkQueue | None = None,
    ) -> None:
        if missing := robot.without_limits:
            raise ConfigError(
                f"the robot declares no limits for {', '.join(missing)}, and nothing is moved "
                "without them"
            )
        report.notes += check_fit(robot, inference.spec, config.accept_mismatch, config.policy_hz)
        report.notes += unknown_angles(robot)
        self._robot, self._config, self._report = robot, config, report
        self.window = inference.spec.window
        _check_chunk_length(config, self.window.horizon - self.window.n_obs_steps + 1)
        merger = make_merger(config.merger, robot.action, **config.merger_options)
        merger.use_with(inference.spec)
        lateness = config.max_action_lateness
        self.queue = ChunkQueue(
            self.window, merger, dt=config.dt, max_lateness=lateness, after=after
        )
        self._merger = merger
        self._replanner = Replanner(inference, self.queue, robot.action, config, report, log)
        self.observations = ObservationBuffer(
            inference.spec,
            config.sensor_latency,
            max_age=config.max_observation_age,
            align_to=config.align_to,
            channels=robot.observation,
            also=robot.measured_by,
            groups=robot.action.groups,
        )
        self._last: Floats | None = None

    def reset(self) -> None:
        """Forget what was seen and planned: a new epoch."""
        self._replanner.reset()
        self.observations.reset()
        self._last = None

    def first_look(self, reading: Reading | None, now: float) -> Arrays | None:
        """What the policy would be shown, to warm it up; None while there is nothing."""
        self.observations.update(reading, now)
        if self.observations.stale(now):
            return None
        self.observations.push()
        return self.observations.stacked()

    def known_for_warm_up(self) -> KnownActions:
        """What a request would say of its chunk with the robot staying where it is; {} where the
        merger says nothing."""
        stay = [self.measured()] * (self.window.horizon - self.window.n_obs_steps + 1)
        return self._merger.known([], stay, 1, self.window)

    def check_warmed_up(self, answer: Any) -> None:
        """Raise RefusedAction for a policy's chunk that no robot should be armed for.

        answer: To the last request of warming up; None: there was none.
        """
        if answer is None:
            return
        try:
            check_chunk(answer, self._robot.action, self._config.refuse_beyond, self.measured())
        except RefusedAction as error:
            raise RefusedAction(f"the policy's chunk for what is seen now: {error}") from None

    def measured(self) -> Floats:
        """Where the robot was seen last, as an action [A]."""
        return self._robot.measured(self.observations.newest)

    def decide(self, reading: Reading | None, now: float) -> Decision:
        """The next action, or a hold.

        reading: the newest, seen at time `now`. Raises InferenceDied.
        """
        self.observations.update(reading, now)
        stale = self.observations.stale(now)
        measured = None if stale else self.measured()
        self._replanner.receive(now, measured)
        if stale:
            self._replanner.reset()  # the plan was made for a world that is no longer seen
            self.observations.clear()
            return self._hold(stale, None)
        self._report.sample("observation_age", self.observations.age(now))
        self.observations.push()
        if self._replanner.ask(self.observations, now):
            self._replanner.receive(
                now, measured
            )  # an answer without delay counts for this action already
        action = self.queue.pop(now)
        if action is None:
            self._report.counts["starved"] += self._report.counts["actions"] > 0
            reason = self._replanner.refusal or "no action: the next chunk has not arrived"
            return self._hold(reason, measured)
        if self._last is not None:
            action = nearest_equal(action, self._last, self._robot.action)
        self._last = action
        self._report.acted(action, self._config.dt, self._robot.action)
        return Decision(action, self.queue.next, measured=measured)

    def _hold(self, reason: str, measured: Floats | None) -> Decision:
        self._last = None
        return Decision(hold=reason, measured=measured)


def _check_chunk_length(config: ResolvedLoopConfig, usable: int) -> None:
    steps = config.n_action_steps
    if steps is not None and steps > usable:
        raise ConfigError(
            f"n_action_steps is {steps}; a chunk of this policy has {usable} actions from the "
            "observation on, and the robot would hold at the end of each"
        )


def slow_inference(seconds: list[float], config: ResolvedLoopConfig, usable: int) -> str:
    """What to say before arming of chunks that took so long in warming up; "" if in time.

    seconds: of each chunk; usable: actions of a chunk from the observation on.
    """
    if not seconds:
        return ""
    # An infinite time has no quantiles; with as few values as these the 99th percentile is near
    # the largest.
    p99 = float(np.quantile(np.minimum(seconds, NEVER), 0.99))
    lasts = usable * config.dt
    if p99 > config.max_action_lateness:
        return (
            f"a chunk takes {p99:.2f} s, longer than max_action_lateness = "
            f"{config.max_action_lateness:g} s: every chunk will come too late, and the robot will "
            "hold. Fewer solver steps, a faster runtime, or a larger max_action_lateness"
        )
    if p99 > lasts:
        return (
            f"a chunk takes {p99:.2f} s and lasts {lasts:.2f} s ({usable} actions at "
            f"{config.policy_hz:g} Hz): the robot will hold between chunks. Fewer solver steps, or "
            "a faster runtime"
        )
    return ""
