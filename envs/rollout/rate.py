"""Control rate of a simulator, and whether a policy was trained at it."""

import math
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.data.loading.features import Features
from dipole.envs.rollout.stepping import EnvironmentFactory
from dipole.envs.wrapped import offered

TOLERANCE = 0.001  # share by which rates may differ


def steps_per_second(environment: Any) -> float | None:
    """Steps per second of a simulator, or None if it declares none.

    By `dt`, the seconds of a step (as MuJoCo's environments have it), or else by
    `metadata["render_fps"]`: each step is one frame.
    """
    seconds = offered(environment, "dt")
    if isinstance(seconds, int | float) and 0 < seconds < math.inf:
        return round(1 / float(seconds), 9)
    frames = environment.metadata.get("render_fps")
    return float(frames) if frames else None


def frame_rate(make: EnvironmentFactory) -> float | None:
    """`steps_per_second` of the simulator that `make` returns."""
    environment = make()
    try:
        return steps_per_second(environment)
    finally:
        environment.close()


def check_rate(features: Features, rate: float | None) -> None:
    """Raises ConfigError if a policy's actions and the simulator's steps have different rates.

    features: The policy's. rate: steps per second. Where either is unknown, nothing is compared.
    """
    trained = getattr(features, "fps", None)  # a policy of one's own may not say
    if trained is None or rate is None or abs(rate - trained) <= TOLERANCE * rate:
        return
    raise ConfigError(
        f"the policy was trained at {trained:g} actions a second, and the simulator makes "
        f"{rate:g} steps a second: train with task.policy_hz={rate:g}, or on data of that rate; "
        "where the simulator is wrong about itself, set environment.fps"
    )
