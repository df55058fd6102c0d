"""`dipole evaluate`: score a checkpoint in its simulator."""

from pathlib import Path
from typing import Any

from dipole.apps.compose import Outcome, run

Config = dict[str, Any]


def main(argv: list[str]) -> int:
    return run("evaluate", argv, evaluate)


def evaluate(config: Config) -> Outcome:
    """Evaluate, write metrics.json, video and picture to the output folder, print the score."""
    from dipole.deploy.evaluation.checkpoint import evaluate_checkpoint

    evaluation = evaluate_checkpoint(config)
    written = evaluation.save(Path(config["output"]).expanduser())
    print(describe(evaluation.metrics))
    print("\n".join(str(path) for path in written))
    return Outcome(0, evaluation.metrics["success_rate"], "success rate")


def describe(metrics: Config) -> str:
    """The scores in two lines."""
    reward, success = metrics["max_reward_ci95"], metrics["success_ci95"]
    return (
        f"mean max reward {metrics['max_reward_mean']:.3f} "
        f"(95 % interval {reward[0]:.3f} to {reward[1]:.3f}) over {metrics['episodes']} episodes\n"
        f"success rate {metrics['success_rate']:.1%} "
        f"({success[0]:.1%} to {success[1]:.1%})"
    )
