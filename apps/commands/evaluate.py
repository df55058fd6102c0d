"""`dipole evaluate`: score a checkpoint in its simulator."""

import time
from pathlib import Path
from typing import Any

from dipole.apps.compose import Outcome, run

Config = dict[str, Any]


def main(argv: list[str]) -> int:
    return run("evaluate", argv, evaluate)


def evaluate(config: Config) -> Outcome:
    """Evaluate, write metrics.json, video and picture to the output folder, print the score."""
    from dipole.deploy.evaluation.checkpoint import evaluate_checkpoint

    started = time.perf_counter()
    evaluation = evaluate_checkpoint(config)
    evaluated = time.perf_counter()
    written = evaluation.save(Path(config["output"]).expanduser())
    print(describe(evaluation.metrics))
    print("\n".join(str(path) for path in written))
    saving = time.perf_counter() - evaluated
    print(_times(evaluated - started, evaluation.metrics["seconds"], saving))
    return Outcome(0, evaluation.metrics["success_rate"], "success rate")


def _times(evaluating: float, episodes: float, saving: float) -> str:
    """What the time went into, seconds."""
    return (
        f"{episodes:.1f} s of episodes; beside them {max(0.0, evaluating - episodes):.1f} s of "
        f"loading, conversion and measuring; after them {saving:.1f} s of video and pictures"
    )


def describe(metrics: Config) -> str:
    """The scores in two lines, and the aspects of quality where they were measured."""
    reward, success = metrics["max_reward_ci95"], metrics["success_ci95"]
    scores = (
        f"mean max reward {metrics['max_reward_mean']:.3f} "
        f"(95 % interval {reward[0]:.3f} to {reward[1]:.3f}) over {metrics['episodes']} episodes\n"
        f"success rate {metrics['success_rate']:.1%} "
        f"({success[0]:.1%} to {success[1]:.1%})"
    )
    if "aspects" not in metrics:
        return scores
    from dipole.envs.quality.table import table

    return "\n".join([scores, *table(metrics["aspects"])])
