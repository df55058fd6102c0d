"""What scores a policy in its task's simulator while it trains."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.envs.evaluate import evaluate

LOGGED = ("max_reward_mean", "max_reward_ci95", "success_rate", "success_ci95", "episodes")


@dataclass(frozen=True)
class ScoreSettings:
    """The group `evaluate` of a training; configs/evaluate/default.yaml says what each means."""

    episodes: int = 50
    workers: int = 0
    seed: int = 100_000

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("workers", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"evaluate.{name} is {getattr(self, name)}: it must be at least {least}"
                )


def training_score(config: Mapping[str, Any]) -> Callable[[Any], Mapping[str, Any]]:
    """Policy → its scores, as a run's task and its group `evaluate` say.

    Raises ConfigError for a task without a simulator.
    """
    settings = from_mapping(ScoreSettings, config["evaluate"], "evaluate")
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
            **asdict(settings),
        )
        return {name: evaluation.metrics[name] for name in LOGGED}

    return score
