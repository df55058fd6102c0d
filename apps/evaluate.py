"""`dipole evaluate`: score a checkpoint in its simulator."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from dipole.apps.common import choose_device
from dipole.apps.compose import run
from dipole.data.errors import ConfigError
from dipole.policy import Policy, load_policy
from dipole.policy.checkpoint import find_checkpoint, read_config

Config = dict[str, Any]


def main(argv: list[str]) -> int:
    return run("evaluate", argv, evaluate_checkpoint)


def evaluate_checkpoint(config: Config) -> int:
    """Evaluate, write metrics.json, video and picture to the output folder, print the score."""
    from dipole.envs import evaluate

    checkpoint = find_checkpoint(Path(config["checkpoint"]).expanduser())
    policy = load_policy(checkpoint, choose_device(config["device"]), config["weights"])
    set_solver(policy, config["solver"])
    environment = read_config(checkpoint).get("environment") or {}
    name = config["environment"] or environment.get("name")
    if name is None:
        raise ConfigError(f"{checkpoint} names no environment: give environment=NAME")
    evaluation = evaluate(
        policy,
        name,
        environment_options=environment.get("options"),
        episodes=config["episodes"],
        seed=config["seed"],
        workers=config["workers"],
        n_envs=config["n_envs"],
        n_action_steps=config["n_action_steps"],
        video_episodes=config["video_episodes"],
        picture=config["picture"],
    )
    evaluation.metrics["checkpoint"] = str(checkpoint)
    evaluation.metrics["weights"] = config["weights"]
    written = evaluation.save(Path(config["output"]).expanduser())
    print(describe(evaluation.metrics))
    print("\n".join(str(path) for path in written))
    return 0


def set_solver(policy: Policy, values: Config) -> None:
    """Replace what is given of how the policy draws chunks."""
    given = {key: value for key, value in values.items() if value is not None}
    if not given:
        return
    if policy.solver is None:
        raise ConfigError(f"the policy's head {policy.config.head['name']!r} has no solver to set")
    policy.head.solver = replace(policy.solver, **given)
    policy.head.check_solver()


def describe(metrics: Config) -> str:
    """The scores in two lines."""
    reward, success = metrics["max_reward_ci95"], metrics["success_ci95"]
    return (
        f"mean max reward {metrics['max_reward_mean']:.3f} "
        f"(95 % interval {reward[0]:.3f} to {reward[1]:.3f}) over {metrics['episodes']} episodes\n"
        f"success rate {metrics['success_rate']:.1%} "
        f"({success[0]:.1%} to {success[1]:.1%})"
    )
