"""Latency-honest evaluation: every chunk arrives K control steps after it was asked for.

The same control loop that moves robots drives the Push-T plant on the virtual clock, so that a
result is deterministic, and with K = 0 is that of `dipole.envs.evaluate`. Episodes run beside each
other, each with a clock of its own, so that their chunks are computed together.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError, DipoleError
from dipole.deploy.evaluation.batched_inference import BatchedInference, run_together
from dipole.deploy.inference.base import Compute
from dipole.deploy.inference.torch_policy import spec_of
from dipole.deploy.inference.virtual import VirtualInference
from dipole.deploy.loop.clock import VirtualClock
from dipole.deploy.loop.config import MISMATCHES, LoopConfig
from dipole.deploy.loop.control_loop import ControlLoop
from dipole.deploy.loop.report import Report
from dipole.deploy.loop.states import State
from dipole.deploy.robots.pusht.robot import VirtualPushT
from dipole.deploy.safety.limits import Limits
from dipole.deploy.types import PolicySpec
from dipole.envs.evaluation import EpisodeResult, Evaluation, summarize
from dipole.envs.pusht.environment import MAX_STEPS
from dipole.envs.pusht.geometry import WORLD_SIZE
from dipole.envs.registry import environment_version

HZ = 10.0
FAR = 1e6  # seconds: only the delay itself is tested, no limit of time
# Wide enough to bind nowhere: the environment has none either.
LIMITS = Limits((0.0,) * 2, (WORLD_SIZE,) * 2, (1e6,) * 2, (1e9,) * 2)


def evaluate_delayed(
    policy: Any,
    *,
    delay: int,
    episodes: int = 50,
    seed: int = 0,
    merger: str = "switch",
    merger_options: Mapping[str, Any] | None = None,
    n_action_steps: int | None = None,
    control_hz: float = HZ,
    interpolation: str = "step",
    limits: Limits = LIMITS,
    group_size: int = 16,
    progress: Callable[[EpisodeResult], None] | None = None,
) -> Evaluation:
    """Run a policy in Push-T for `episodes` episodes, with seeds seed, seed + 1, ...

    delay: control steps (of 0.1 s) from observation to chunk; while it lasts, the present chunk
        goes on, and where that ends, the agent waits.
    control_hz, interpolation, limits: of commands; by default one command an action, and limits
        that bind nowhere, as plain evaluation does.
    group_size: rows of an inference call, as in `evaluate`.
    metrics hold seam_jump (pixels, between the old plan and the new one) and jerk (pixels per
    second cubed) beside the scores. Raises ConfigError for values that cannot work.
    """
    if delay < 0 or episodes < 1:
        raise ConfigError(f"delay is {delay}, episodes {episodes}: at least 0, and 1")
    _check_delay(delay, merger, spec_of(policy))
    config = LoopConfig(
        policy_hz=HZ,
        control_hz=control_hz,
        n_action_steps=n_action_steps,
        merger=merger,
        merger_options=merger_options or {},
        interpolation=interpolation,
        max_observation_age=FAR,
        max_action_lateness=FAR,
        inference_timeout=FAR,
        max_hold=None,
        max_limited=None,
        max_approach=None,
        accept_mismatch=MISMATCHES,  # as plain evaluation, which compares nothing but shapes
    )
    found: dict[int, tuple[EpisodeResult, Report]] = {}
    members = min(episodes, group_size)
    together = BatchedInference(policy, members, group_size)

    def run(number: int) -> None:
        compute = together.compute(seed + number)
        found[number] = _episode(spec_of(policy), compute, seed + number, delay, config, limits)
        if progress is not None:
            progress(found[number][0])

    started = time.perf_counter()
    run_together(episodes, members, run, together.leave)
    seconds = time.perf_counter() - started
    results = [found[number][0] for number in range(episodes)]
    reports = [found[number][1] for number in range(episodes)]
    metrics = summarize(results) | {
        "delay": delay,
        "merger": merger,
        "merger_options": dict(config.merger_options),
        "seam_jump": _mean(reports, "seam_jump"),
        "jerk": _mean(reports, "jerk"),
        "control_hz": control_hz,
        "interpolation": interpolation,
        "limits": None if limits is LIMITS else asdict(limits),
        "starved_steps": sum(report.counts["starved"] for report in reports),
        "environment": environment_version("pusht"),
        "seconds": seconds,
        "seed": seed,
        "n_action_steps": n_action_steps or policy.window.n_action_steps,
    }
    return Evaluation(metrics, results)


def _check_delay(delay: int, merger: str, policy: PolicySpec) -> None:
    """Refuse a prefix that the policy was not trained for."""
    longest = policy.max_prefix - (policy.window.n_obs_steps - 1)
    if merger == "trained_prefix" and policy.max_prefix and delay > longest:
        raise ConfigError(
            f"delay is {delay}, but the policy was trained to go on after at most {longest} "
            f"actions (policy.head.prefix.max_length {policy.max_prefix}, less the observations "
            "before): choose merger rtc"
        )


def _episode(
    spec: PolicySpec, compute: Compute, seed: int, delay: int, config: LoopConfig, limits: Limits
) -> tuple[EpisodeResult, Report]:
    clock = VirtualClock()
    robot = VirtualPushT(clock, observation=tuple(spec.observation), seed=seed, sensor_hz=HZ)
    robot.spec = replace(robot.spec, limits=limits)
    seconds = max(0.0, (delay - 0.5) / HZ)  # between two steps, whatever the last bit of a time
    inference = VirtualInference(spec, compute, clock, seconds)
    loop = ControlLoop(robot, inference, config, clock=clock, log=lambda _line: None)

    loop.heartbeat = outcome = _Outcome(robot, loop)
    loop.prepare()
    loop.arm()
    report = loop.run(MAX_STEPS / HZ)
    if loop.states.state is State.FAULT:
        raise DipoleError(f"the episode of seed {seed} could not be finished: {loop.states.reason}")
    outcome()
    most, last = outcome.rewards
    steps = math.ceil(report.counts["slots"] / loop.config.steps)
    return EpisodeResult(seed, most >= 1.0, most, last, steps), report


class _Outcome:
    """Looks at the world before each command, until the loop ends the episode: what its braking
    ramp does afterwards is no part of it."""

    def __init__(self, robot: VirtualPushT, loop: ControlLoop) -> None:
        self.rewards = (0.0, 0.0)
        self._robot, self._loop, self._over = robot, loop, False

    def __call__(self) -> None:
        if self._over:
            return
        self._robot.observe()
        self.rewards = (self._robot.plant.max_reward, self._robot.plant.reward)
        self._over = self._loop.states.state not in (State.RUN, State.HOLD)
        if self.rewards[0] >= 1.0:
            self._loop.request_stop("solved")


def _mean(reports: list[Report], name: str) -> float | None:
    """The mean over all episodes, weighted by how often it was measured; None for never."""
    kept = [report.samples[name].values() for report in reports if name in report.samples]
    return float(np.concatenate(kept).mean()) if kept else None
