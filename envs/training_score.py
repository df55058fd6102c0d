"""What scores a policy in its task's simulator while it trains."""

from collections.abc import Callable, Mapping
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.envs.evaluate import evaluate

LOGGED = ("max_reward_mean", "max_reward_ci95", "success_rate", "success_ci95", "episodes")


def training_score(config: Mapping[str, Any]) -> Callable[[Any], Mapping[str, Any]]:
    """Policy → its scores, as a run's task and its group `evaluate` say.

    Raises ConfigError for a task without a simulator.
    """
    environment = config["task"].get("environment")
    if environment is None:
        raise ConfigError(
            f"task {config['task']['name']!r} has no environment to evaluate in: "
            "set train.evaluate_every=0"
        )

    def score(policy: Any) -> Mapping[str, Any]:
        evaluation = evaluate(
            policy,
            environment["name"],
            environment_options=environment.get("options"),
            **config["evaluate"],
        )
        return {name: evaluation.metrics[name] for name in LOGGED}

    return score
