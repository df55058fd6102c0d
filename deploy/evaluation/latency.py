"""Latency-honest evaluation: every chunk arrives K control steps after it was asked for.

The same control loop that moves robots drives the environment on the virtual clock, so that a
result is deterministic, and with K = 0 is that of `dipole.envs.evaluate`. Episodes run beside each
other, each with a clock of its own, so that their chunks are computed together.
"""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError, DipoleError
from dipole.deploy.evaluation.batched_inference import BatchedInference, run_together
from dipole.deploy.evaluation.worlds import (
    HZ,
    LIMITS,
    PUSHT,
    Episode,
    PushTWorlds,
    SimulatedWorlds,
    World,
)
from dipole.deploy.inference.base import Compute
from dipole.deploy.inference.torch_policy import spec_of
from dipole.deploy.inference.virtual import VirtualInference
from dipole.deploy.loop.clock import VirtualClock
from dipole.deploy.loop.config import MISMATCHES, LoopConfig
from dipole.deploy.loop.control_loop import ControlLoop
from dipole.deploy.loop.report import Report
from dipole.deploy.loop.states import State
from dipole.deploy.safety.limits import Limits
from dipole.deploy.types import PolicySpec
from dipole.envs.contract import EnvSpec
from dipole.envs.evaluation import EpisodeResult, Evaluation, summarize
from dipole.envs.pusht.environment import OBSERVATIONS
from dipole.envs.rollout.first_look import first_look
from dipole.envs.rollout.rate import check_rate
from dipole.envs.rollout.resolved import ResolvedEnvironment

__all__ = ["HZ", "LIMITS", "evaluate_delayed"]

FAR = 1e6  # seconds: only the delay itself is tested, no limit of time


def evaluate_delayed(
    policy: Any,
    environment: str | EnvSpec | Mapping[str, Any] = "pusht",
    *,
    delay: int,
    episodes: int = 50,
    seed: int = 0,
    merger: str = "switch",
    merger_options: Mapping[str, Any] | None = None,
    n_action_steps: int | None = None,
    control_hz: float | None = None,
    interpolation: str = "step",
    limits: Limits | None = None,
    inference_batch_size: int = 16,
    progress: Callable[[EpisodeResult], None] | None = None,
) -> Evaluation:
    """Run a policy for `episodes` episodes, with seeds seed, seed + 1, ...

    environment: as `dipole.envs.evaluate` takes it, but no function.
    delay: control steps from observation to chunk; while it lasts, the present chunk goes on, and
        where that ends, the robot waits.
    control_hz, interpolation, limits: of commands; by default one command an action, and limits
        that bind nowhere, as plain evaluation does. Other rates and limits are Push-T's alone,
        whose physics runs at 100 Hz.
    inference_batch_size: rows of an inference call, as in `evaluate`.
    metrics hold seam_jump (units of the action, between the old plan and the new one) and jerk
    (units per second cubed) beside the scores. Raises ConfigError for values that cannot work.
    """
    if delay < 0 or episodes < 1:
        raise ConfigError(f"delay is {delay}, episodes {episodes}: at least 0, and 1")
    _check_delay(delay, merger, spec_of(policy))
    world = _world(policy, environment, seed, control_hz, limits)
    config = LoopConfig(
        policy_hz=world.hz,
        control_hz=control_hz or world.hz,
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
        refuse_beyond=world.refuse_beyond,
        accept_mismatch=MISMATCHES,  # as plain evaluation, which compares nothing but shapes
    )
    found: dict[int, tuple[EpisodeResult, Report]] = {}
    members = min(episodes, inference_batch_size)
    together = BatchedInference(policy, members, inference_batch_size)

    def run(number: int) -> None:
        compute = together.compute(seed + number)
        spec = spec_of(policy)
        found[number] = _episode(world, spec, compute, number, seed + number, delay, config)
        if progress is not None:
            progress(found[number][0])

    started = time.perf_counter()
    with closing(world):
        run_together(episodes, members, run, together.leave)
    seconds = time.perf_counter() - started
    results = [found[number][0] for number in range(episodes)]
    reports = [found[number][1] for number in range(episodes)]
    metrics = summarize(results, world.score) | {
        "delay": delay,
        "merger": merger,
        "merger_options": dict(config.merger_options),
        "seam_jump": _mean(reports, "seam_jump"),
        "jerk": _mean(reports, "jerk"),
        "evaluations_per_chunk": getattr(policy, "evaluations_per_chunk", None),
        "control_hz": config.control_hz,
        "interpolation": interpolation,
        "limits": None if limits is None or limits is LIMITS else asdict(limits),
        "starved_steps": sum(report.counts["starved"] for report in reports),
        "environment": world.version,
        "environment_options": world.options,
        "environment_settings": world.settings,
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


def _world(
    policy: Any,
    environment: str | EnvSpec | Mapping[str, Any],
    seed: int,
    control_hz: float | None,
    limits: Limits | None,
) -> World:
    spec = EnvSpec.read(environment)
    seen = tuple(policy.features.observation)
    if spec == EnvSpec(PUSHT) and set(seen) <= set(OBSERVATIONS):
        check_rate(policy.features, HZ)
        return PushTWorlds(limits or LIMITS, seen)
    resolved = ResolvedEnvironment.of(spec, policy, {})
    fps = first_look(resolved, policy, seed=seed).fps
    check_rate(policy.features, fps)
    hz = fps or getattr(policy.features, "fps", None) or HZ
    if limits is not None or control_hz not in (None, hz):
        raise ConfigError(
            f"control_hz={control_hz}, limits={limits}: environment {spec.id!r} takes one command "
            f"a step, {hz:g} a second, and has limits of its own"
        )
    return SimulatedWorlds(resolved, hz)


def _episode(
    world: World,
    spec: PolicySpec,
    compute: Compute,
    number: int,
    seed: int,
    delay: int,
    config: LoopConfig,
) -> tuple[EpisodeResult, Report]:
    clock = VirtualClock()
    with world.episode(clock, number, seed) as episode:
        seconds = max(0.0, (delay - 0.5) / world.hz)  # between two steps, surely
        inference = VirtualInference(spec, compute, clock, seconds)
        loop = ControlLoop(episode.robot, inference, config, clock=clock, log=lambda _line: None)
        loop.heartbeat = partial(_beat, episode, loop)
        loop.prepare()
        loop.arm()
        report = loop.run(world.longest)
        if loop.states.state is State.FAULT:
            reason = loop.states.reason
            raise DipoleError(f"the episode of seed {seed} could not be finished: {reason}")
        loop.heartbeat()
        return episode.result(math.ceil(report.counts["slots"] / loop.config.steps)), report


def _beat(episode: Episode, loop: ControlLoop) -> None:
    """Look at the world before each command, until the loop ends the episode: what its braking
    ramp does afterwards is no part of it."""
    if episode.look(running=loop.states.state in (State.RUN, State.HOLD)):
        loop.request_stop("the episode is over")


def _mean(reports: list[Report], name: str) -> float | None:
    """The mean over all episodes, weighted by how often it was measured; None for never."""
    kept = [report.samples[name].values() for report in reports if name in report.samples]
    return float(np.concatenate(kept).mean()) if kept else None
