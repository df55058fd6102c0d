"""`dipole train`: compose, train; or go on with a run."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dipole.apps.compose import Outcome, run
from dipole.apps.compose.configuration import resolved_in
from dipole.data.core.errors import ConfigError

if TYPE_CHECKING:  # torch comes when a configuration is composed and has said how threads wait
    from dipole.policy.training.output.result import TrainResult

Config = dict[str, Any]


def main(argv: list[str]) -> int:
    return run("train", argv, train)


def train(config: Config) -> Outcome:
    """One run, new or resumed; the exit code says which signal ended it, if one did."""
    return finished(train_run(config))


def finished(result: "TrainResult") -> Outcome:
    """Says how far the run is."""
    print("\n".join(_told(result)))
    if result.stopped is not None:
        return Outcome(128 + signal.Signals[result.stopped])
    return Outcome(0, result.score, result.score_name)


def train_run(config: Config) -> "TrainResult":
    """The run of a composed configuration, new or resumed."""
    import dipole.envs  # noqa: F401  simulators register the transforms of their states
    from dipole.envs.training_score import training_score
    from dipole.policy.training.run import read_run, resume_run, start_run

    said = config.get("overrides", {})
    if config["resume"] is None:
        _refuse_unused(config["policy"], said)
        output = Path(config["output"]).expanduser()
        return start_run(config, output, training_score, rename="output" not in said)
    output = Path(config["resume"]).expanduser()
    changes = {key: value for key, value in said.items() if key not in ("resume", "output")}
    return resume_run(output, resolved_in(read_run(output), changes), training_score)


def _refuse_unused(policy: Config, said: Config) -> None:
    """Raises ConfigError for a setting of a part that the policy's head does not have."""
    from dipole.policy.config import unused_parts

    for part in unused_parts(policy["head"]):
        for key in said:
            if f"{key}.".replace("/", ".").startswith(f"policy.{part}."):
                raise ConfigError(
                    f"{key} is set, but head {policy['head']['name']!r} has no {part}: leave it "
                    "out, or choose policy/head=diffusion"
                )


def _told(result: "TrainResult") -> list[str]:
    """How far the run is, and what a person does next."""
    if result.stopped is not None:
        return [
            f"{result.stopped} after step {result.step} of {result.steps}; "
            f"go on with: dipole train resume={result.output}"
        ]
    if result.begun >= result.steps:
        return [
            f"nothing to do: {result.output} is already trained for {result.step} steps, and "
            f"train.steps={result.steps} asks for no more"
        ]
    return [f"trained {result.steps} steps: {result.output}", _next(result.output)]


def _next(output: Path) -> str:
    """What a checkpoint names is not imported or started: the command has to name it."""
    from dipole.envs.contract import EnvSpec
    from dipole.policy.training.run import read_run

    config = read_run(output)
    if (config.get("objective") or {}).get("policy_weight") == 0:  # its image encoder alone
        init = f"train.init={{from: {output}, map: {{encoder: encoder}}}}"
        return f"begin a policy with its encoder: dipole train '{init}'"
    named = config["task"].get("environment")
    if named is None:
        return f"try it with: dipole deploy checkpoint={output} robot=YOURS dry_run=true"
    environment = EnvSpec.read(named)
    more = "" if environment.module is None else f" environment={environment.id}"
    more += "" if environment.python is None else f" environment.python={environment.python}"
    return f"evaluate with: dipole evaluate checkpoint={output}{more}"
