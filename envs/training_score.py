"""What scores a policy in its task's simulator while it trains."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.data.store.numbers import NOT_FINITE
from dipole.envs.contract import EnvSpec
from dipole.envs.evaluate import evaluate
from dipole.envs.evaluation import check_scored
from dipole.envs.registry import check_environment, check_seeds

LOGGED = (
    "score",
    "score_name",
    "max_reward_mean",
    "max_reward_ci95",
    "return_mean",
    "return_ci95",
    "success_rate",
    "success_ci95",
    "episodes",
)


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


def training_score(config: Mapping[str, Any]) -> Callable[[Any], Mapping[str, Any]] | None:
    """Policy → its scores, as a run's task and its group `evaluate` say; what is unknown is left
    out, and so is how many episodes the simulator diverged in where it did in none. None for a run
    that is not scored, train.evaluate_every=0, whose group is checked all the same.

    Raises ConfigError for a task without a simulator, and for seeds that it does not take.
    """
    settings = from_mapping(ScoreSettings, config.get("evaluate", {}), "evaluate")
    if not config["train"].get("evaluate_every"):
        return None
    if config["task"].get("environment") is None:
        raise ConfigError(
            f"task {config['task']['name']!r} has no environment to evaluate in: "
            "set train.evaluate_every=0"
        )
    spec = EnvSpec.read(config["task"]["environment"])
    check_environment(spec)
    check_seeds(spec, settings.seed, settings.episodes, "evaluate.seed")

    def score(policy: Any) -> Mapping[str, Any]:
        metrics = evaluate(policy, spec, **asdict(settings)).metrics
        check_scored(metrics)
        diverged = metrics["ended_by"][NOT_FINITE]
        known = {name: metrics[name] for name in LOGGED if metrics[name] is not None}
        return known | ({NOT_FINITE: diverged} if diverged else {})

    return score
