"""`dipole evaluate`: score a checkpoint in its simulator, or against held-out demonstrations."""

import time
from pathlib import Path
from typing import Any

from dipole.apps.compose import Outcome, run

Config = dict[str, Any]
NOT_FINITE, NAMED = "state_not_finite", 8
NAMES = {
    "success_rate": "success rate",
    "success_at_end_rate": "success rate at the end",
    "return_mean": "mean return",
    "max_reward_mean": "mean max reward",
    "final_reward_mean": "mean final reward",
}


def main(argv: list[str]) -> int:
    return run("evaluate", argv, evaluate)


def evaluate(config: Config) -> Outcome:
    """Evaluate, print the score, write metrics.json, video and picture to the output folder.

    Of a task without a simulator the aspects of quality alone, where they are asked for.
    """
    from dipole.apps.terminal.task_tables import print_tasks
    from dipole.deploy.evaluation.checkpoint import evaluate_checkpoint
    from dipole.envs.evaluation import check_scored
    from dipole.envs.evaluation.results import check_folder, set_aside

    folder = Path(config["output"]).expanduser()
    check_folder(folder, config["keep_episodes"])
    started = time.perf_counter()
    evaluation = evaluate_checkpoint(config)
    evaluated = time.perf_counter()
    print(describe(evaluation.metrics))
    print_tasks(evaluation.metrics)
    earlier = set_aside(folder)
    written = evaluation.save(folder)
    if earlier:
        print(f"the evaluation that was there is in {earlier} now")
    print("\n".join(str(path) for path in written))
    saving = time.perf_counter() - evaluated
    if not has_episodes(evaluation.metrics):
        return Outcome(0, -evaluation.metrics["aspects"]["energy_score"], "energy score, negative")
    print(_times(evaluated - started, evaluation.metrics, saving))
    check_scored(evaluation.metrics)  # what was measured is kept
    return Outcome(0, *compared_by(evaluation.metrics))


def has_episodes(metrics: Config) -> bool:
    """Whether a simulator was there."""
    return "per_episode" in metrics


def compared_by(metrics: Config) -> tuple[float, str]:
    """What the jobs of a sweep are compared by, and its name: success, or else what decides."""
    known = metrics["success_rate"] is not None
    name = "success_rate" if known else metrics["score_name"]
    return metrics[name], NAMES[name]


def _times(evaluating: float, metrics: Config, saving: float) -> str:
    """What the time went into."""
    from dipole.envs.evaluation.times import described

    aspects = metrics.get("aspects", {}).get("seconds", 0.0)
    again = metrics.get("seconds_by_part", {}).get("filming_again", 0.0)
    before = max(0.0, evaluating - metrics["seconds"] - aspects - again)
    measured = f"{again:.1f} s of failures once more, " if again else ""
    measured += f"{aspects:.1f} s of aspects, " if aspects else ""
    return (
        f"{described(metrics)}; before them {before:.1f} s of loading, conversion and "
        f"measuring; after them {measured}{saving:.1f} s of video and pictures"
    )


def describe(metrics: Config) -> str:
    """The scores and, where they were measured, the aspects of quality, a line each; what is not
    known is left out."""
    from dipole.envs.quality.table import table

    if not has_episodes(metrics):
        return "\n".join(table(metrics["aspects"]))
    reward, returned = metrics["max_reward_ci95"], metrics["return_ci95"]
    lines = [
        f"mean max reward {metrics['max_reward_mean']:.3f} "
        f"(95 % interval {reward[0]:.3f} to {reward[1]:.3f}) over {metrics['episodes']} episodes"
    ]
    if metrics["score_name"] == "return_mean":
        low, high = returned
        lines.insert(0, f"mean return {metrics['return_mean']:.4g} ({low:.4g} to {high:.4g})")
    if metrics["score_name"] == "final_reward_mean":
        lines.insert(0, f"mean final reward {metrics['final_reward_mean']:.3f}")
    if metrics["success_rate"] is not None:
        low, high = metrics["success_ci95"]
        lines.append(f"success rate {metrics['success_rate']:.1%} ({low:.1%} to {high:.1%})")
        lines += _other_successes(metrics)
    lines += _ended_early(metrics)
    if "over_tasks" in metrics:
        lines += _over_tasks(metrics)
    if "aspects" in metrics:
        lines += table(metrics["aspects"])
    return "\n".join(lines)


def _other_successes(metrics: Config) -> list[str]:
    """Success by its other definitions, where they find something else."""
    lines = []
    if metrics["success_at_end_rate"] != metrics["success_rate"]:
        low, high = metrics["success_at_end_ci95"]
        lines.append(
            f"success at the end {metrics['success_at_end_rate']:.1%} ({low:.1%} to {high:.1%})"
        )
    for name, found in metrics.get("successes", {}).items():
        low, high = found["ci95"]
        lines.append(f"success as {name} {found['rate']:.1%} ({low:.1%} to {high:.1%})")
    return lines


def _ended_early(metrics: Config) -> list[str]:
    """How many episodes the simulator could not finish."""
    count = metrics["ended_by"][NOT_FINITE]
    if not count:
        return []
    seeds = [each["seed"] for each in metrics["per_episode"] if "ended_by" in each]
    return [
        f"{count} of {metrics['episodes']} episodes ended because the simulator's state was not "
        f"finite, and have failed ({_seeds(seeds)})"
    ]


def _seeds(seeds: list[int]) -> str:
    named = ", ".join(map(str, seeds[:NAMED])) + (", ..." if len(seeds) > NAMED else "")
    return f"seed {named}" if len(seeds) == 1 else f"seeds {named}"


def _over_tasks(metrics: Config) -> list[str]:
    """The mean over tasks, where it is not that over episodes."""
    over = metrics["over_tasks"]
    if over["success_rate"] is None or abs(over["success_rate"] - metrics["success_rate"]) < 5e-4:
        return []
    low, high = over["success_ci95"]
    return [
        f"success rate {over['success_rate']:.1%} ({low:.1%} to {high:.1%}) as the mean over "
        f"{over['tasks']} tasks"
    ]
