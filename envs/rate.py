"""Control rate of a simulator, and whether a policy was trained at it."""

from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.envs.rollout import Environment, EnvironmentFactory

TOLERANCE = 0.001  # share by which rates may differ


def frame_rate(make: EnvironmentFactory) -> float | None:
    """Steps per second of the simulator that `make` returns, or None if it declares none.

    It is `metadata["render_fps"]`: each step is one frame.
    """
    environment: Environment = make()
    try:
        rate = environment.metadata.get("render_fps")
    finally:
        environment.close()
    return float(rate) if rate else None


def check_rate(policy: Any, make: EnvironmentFactory) -> None:
    """Raises ConfigError if the policy's actions and the simulator's steps have different rates.

    Where either rate is unknown, nothing is compared.
    """
    trained = getattr(policy.features, "fps", None)
    rate = frame_rate(make) if trained is not None else None
    if trained is None or rate is None or abs(rate - trained) <= TOLERANCE * rate:
        return
    raise ConfigError(
        f"the policy was trained at {trained:g} actions a second, and the simulator makes "
        f"{rate:g} steps a second: train with task.policy_hz={rate:g}, or on data of that rate"
    )
