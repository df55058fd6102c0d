"""`dipole evaluate`: score a checkpoint in its simulator."""

import time
from pathlib import Path
from typing import Any

from dipole.apps.compose import run
from dipole.data.core.errors import ConfigError
from dipole.envs import Evaluation
from dipole.policy import Policy
from dipole.policy.checkpoint import find_checkpoint, read_config
from dipole.policy.device import choose_device
from dipole.policy.exported import is_export, read_schema
from dipole.policy.runnable import Runnable, load_runnable

Config = dict[str, Any]
MOST_CHUNKS, GROUP = 40, 16  # of an episode of usual length; episodes inferred for at once


def main(argv: list[str]) -> int:
    return run("evaluate", argv, evaluate_checkpoint)


def evaluate_checkpoint(config: Config) -> int:
    """Evaluate, write metrics.json, video and picture to the output folder, print the score."""
    started = time.perf_counter()
    path = Path(config["checkpoint"]).expanduser()
    name, options = _environment(path, config["environment"])
    policy = load_runnable(
        path,
        runtime=config["runtime"],
        device=choose_device(config["device"]),
        weights=config["weights"],
        solver=config["solver"],
        calls=config["episodes"] * MOST_CHUNKS / GROUP,
    )
    checkpoint, terms = _origin(path, policy, config["weights"])
    loading = time.perf_counter() - started
    if config["delay"] is None:
        evaluation = _evaluate(policy, name, options, config)
    else:
        evaluation = _evaluate_delayed(policy, name, options, config)
    evaluation.metrics |= {"checkpoint": str(checkpoint), **terms}
    written = evaluation.save(Path(config["output"]).expanduser())
    print(describe(evaluation.metrics))
    print("\n".join(str(path) for path in written))
    print(_times(loading, evaluation.metrics["seconds"], time.perf_counter() - started))
    return 0


def _times(loading: float, episodes: float, total: float) -> str:
    """What the time went into."""
    return (
        f"{episodes:.1f} s of episodes; before them {loading:.1f} s of loading, conversion and "
        f"measuring; after them {max(0.0, total - loading - episodes):.1f} s of video and pictures"
    )


def _evaluate(policy: Runnable, name: str, options: Config | None, config: Config) -> Evaluation:
    from dipole.envs import evaluate

    return evaluate(
        policy,
        name,
        environment_options=options,
        episodes=config["episodes"],
        seed=config["seed"],
        workers=config["workers"],
        threads=config["threads"],
        n_envs=config["n_envs"],
        n_action_steps=config["n_action_steps"],
        video_episodes=config["video_episodes"],
        picture=config["picture"],
    )


def _evaluate_delayed(
    policy: Runnable, name: str, options: Config | None, config: Config
) -> Evaluation:
    """Episode by episode, without a video: the control loop's own."""
    from dipole.deploy.evaluation.latency import evaluate_delayed

    if name != "pusht" or options:
        raise ConfigError(f"delay={config['delay']}: only plain pusht can be delayed, not {name!r}")
    return evaluate_delayed(
        policy,
        delay=config["delay"],
        episodes=config["episodes"],
        seed=config["seed"],
        merger=config["merger"],
        merger_options=config["merger_options"],
        n_action_steps=config["n_action_steps"],
    )


def _environment(path: Path, given: str | None) -> tuple[str, Config | None]:
    """The simulator's name and options, before anything takes long. Raises ConfigError for none."""
    where = path if is_export(path) else find_checkpoint(path)
    said = read_schema(path) if is_export(path) else read_config(where)
    environment = said.get("environment") or {}
    name = given or environment.get("name")
    if name is None:
        raise ConfigError(
            f"{where} is of a task without a simulator: give environment=NAME to evaluate it in "
            "one, or try it on the robot with `dipole deploy checkpoint=... robot=YOURS "
            "dry_run=true`"
        )
    return name, environment.get("options")


def _origin(path: Path, policy: Runnable, weights: str) -> tuple[Path, Config]:
    """What is evaluated: its folder, and how the result should name it."""
    if isinstance(policy, Policy):
        return find_checkpoint(path), {"weights": weights, "runtime": "eager"}
    source = policy.schema.get("source", {})
    folder = path if is_export(path) else find_checkpoint(path)
    terms = {"weights": source.get("weights"), "runtime": policy.runtime, "source": source}
    return folder, terms


def describe(metrics: Config) -> str:
    """The scores in two lines."""
    reward, success = metrics["max_reward_ci95"], metrics["success_ci95"]
    return (
        f"mean max reward {metrics['max_reward_mean']:.3f} "
        f"(95 % interval {reward[0]:.3f} to {reward[1]:.3f}) over {metrics['episodes']} episodes\n"
        f"success rate {metrics['success_rate']:.1%} "
        f"({success[0]:.1%} to {success[1]:.1%})"
    )
