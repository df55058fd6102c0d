"""A checkpoint's or an export's score in its simulator, from a plain configuration."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.deploy.evaluation.settings import check_settings
from dipole.envs import Evaluation, evaluate
from dipole.envs.rate import check_rate
from dipole.envs.registry import ENVIRONMENTS, make_env
from dipole.policy.checkpoint import find_checkpoint, read_config
from dipole.policy.core.device import choose_device
from dipole.policy.runtimes.exported import ExportedPolicy, is_export, read_schema
from dipole.policy.runtimes.inference_policy import InferencePolicy
from dipole.policy.runtimes.runnable import load_runnable

Config = Mapping[str, Any]
MOST_CHUNKS, GROUP = 40, 16  # of an episode of usual length; episodes inferred for at once
PASSED_ON = (
    "episodes",
    "seed",
    "workers",
    "threads",
    "n_envs",
    "n_action_steps",
    "video_episodes",
    "picture",
)


def evaluate_checkpoint(config: Config, say: Callable[[str], None] = print) -> Evaluation:
    """Run a checkpoint's episodes; nothing is written.

    config: The keys of configs/evaluate.yaml, "output" aside. Raises ConfigError for what cannot
    work, before anything takes long.
    """
    check_settings(config)
    path = Path(config["checkpoint"]).expanduser()
    name, options = _environment(path, config["environment"])
    policy = load_runnable(
        path,
        runtime=config["runtime"],
        device=choose_device(config["device"]),
        weights=config["weights"],
        solver=config["solver"],
        part=config["part"],
        calls=config["episodes"] * MOST_CHUNKS / GROUP,
        log=say,
    )
    checkpoint, terms = _origin(path, policy, config["weights"])
    if config["part"] is not None:
        terms = {**terms, "part": config["part"]}
    if config["delay"] is None:
        passed = {key: config[key] for key in PASSED_ON}
        evaluation = evaluate(policy, name, environment_options=options, **passed)
    else:
        evaluation = _evaluate_delayed(policy, name, options, config)
    evaluation.metrics |= {"checkpoint": str(checkpoint), **terms}
    return evaluation


def _evaluate_delayed(
    policy: InferencePolicy, name: str, options: Config | None, config: Config
) -> Evaluation:
    """Episode by episode, without a video: the control loop's own."""
    from dipole.deploy.evaluation.latency import evaluate_delayed

    if name != "pusht" or options:
        raise ConfigError(f"delay={config['delay']}: only plain pusht can be delayed, not {name!r}")
    check_rate(policy, partial(make_env, name))
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
    """The simulator's name and options. Raises ConfigError for none."""
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
    ENVIRONMENTS[name]  # an unknown name is refused before anything takes long
    return name, environment.get("options")


def _origin(path: Path, policy: InferencePolicy, weights: str) -> tuple[Path, dict[str, Any]]:
    """What is evaluated: its folder, and how the result should name it."""
    folder = path if is_export(path) else find_checkpoint(path)
    if not isinstance(policy, ExportedPolicy):
        return folder, {"weights": weights, "runtime": policy.runtime}
    source = policy.schema.get("source", {})
    return folder, {"weights": source.get("weights"), "runtime": policy.runtime, "source": source}
