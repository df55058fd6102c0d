"""Latency-honest evaluation: every chunk arrives K control steps after it was asked for.

The same control loop that moves robots drives the Push-T plant on the virtual clock, so that a
result is deterministic, and with K = 0 is that of `dipole.envs.evaluate`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dipole.data.errors import ConfigError
from dipole.deploy.clock import VirtualClock
from dipole.deploy.config import LoopConfig
from dipole.deploy.inference import VirtualInference
from dipole.deploy.limits import Limits
from dipole.deploy.loop import ControlLoop
from dipole.deploy.policy_compute import PolicyCompute, spec_of
from dipole.deploy.report import Report
from dipole.deploy.sim_pusht import VirtualPushT
from dipole.envs.evaluation import EpisodeResult, Evaluation, summarize
from dipole.envs.pusht import MAX_STEPS
from dipole.envs.pusht_geometry import WORLD_SIZE
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
    progress: Callable[[EpisodeResult], None] | None = None,
) -> Evaluation:
    """Run a policy in Push-T for `episodes` episodes, with seeds seed, seed + 1, ...

    delay: control steps (of 0.1 s) from observation to chunk; while it lasts, the present chunk
    goes on, and where that ends, the agent waits. metrics hold seam_jump (pixels, between the old
    plan and the new one) and jerk (pixels per second cubed) beside the scores.
    Raises ConfigError for values that cannot work.
    """
    if delay < 0 or episodes < 1:
        raise ConfigError(f"delay is {delay}, episodes {episodes}: at least 0, and 1")
    config = LoopConfig(
        policy_hz=HZ,
        control_hz=HZ,
        n_action_steps=n_action_steps,
        merger=merger,
        merger_options=merger_options or {},
        interpolation="step",
        max_observation_age=FAR,
        max_action_lateness=FAR,
        inference_timeout=FAR,
        max_hold=None,
        max_clamps=10**6,
    )
    results, reports = [], []
    for number in range(seed, seed + episodes):
        result, report = _episode(policy, number, delay, config)
        results.append(result)
        reports.append(report)
        if progress is not None:
            progress(result)
    metrics = summarize(results) | {
        "delay": delay,
        "merger": merger,
        "merger_options": dict(config.merger_options),
        "seam_jump": _mean(reports, "seam_jump"),
        "jerk": _mean(reports, "jerk"),
        "starved_steps": sum(report.counts["starved"] for report in reports),
        "environment": environment_version("pusht"),
        "seed": seed,
        "n_action_steps": n_action_steps or policy.window.n_action_steps,
    }
    return Evaluation(metrics, results)


def _episode(
    policy: Any, seed: int, delay: int, config: LoopConfig
) -> tuple[EpisodeResult, Report]:
    clock, spec = VirtualClock(), spec_of(policy)
    robot = VirtualPushT(clock, observation=tuple(spec.observation), seed=seed, sensor_hz=HZ)
    robot.spec = replace(robot.spec, limits=LIMITS)
    seconds = max(0.0, (delay - 0.5) / HZ)  # between two steps, whatever the last bit of a time
    inference = VirtualInference(spec, PolicyCompute(policy, seed), clock, seconds)
    loop = ControlLoop(robot, inference, config, clock=clock, log=lambda _line: None)

    def look() -> None:
        if robot.plant.max_reward >= 1.0:
            loop.request_stop("solved")

    loop.heartbeat = look
    loop.prepare()
    loop.arm()
    report = loop.run(MAX_STEPS / HZ)
    robot.observe()  # the last step's outcome
    plant = robot.plant
    steps = report.counts["slots"]
    solved = plant.max_reward >= 1.0
    return EpisodeResult(seed, solved, plant.max_reward, plant.reward, steps), report


def _mean(reports: list[Report], name: str) -> float | None:
    """The mean over all episodes, weighted by how often it was measured; None for never."""
    kept = [report.samples[name].values() for report in reports if name in report.samples]
    return float(np.concatenate(kept).mean()) if kept else None
