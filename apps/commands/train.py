"""`dipole train`: compose, train; or go on with a run."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dipole.apps.compose import Outcome, run
from dipole.apps.compose.configuration import resolved_in
from dipole.apps.terminal.errors import UsageError
from dipole.data.core.errors import ConfigError

if TYPE_CHECKING:  # torch comes when a configuration is composed and has said how threads wait
    from dipole.policy.training.output.result import TrainResult
    from dipole.policy.training.process.group import Group

MULTIRUN = frozenset({"--multirun", "-m"})
Config = dict[str, Any]


def main(argv: list[str]) -> int:
    if MULTIRUN.intersection(argv) and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "--multirun under torchrun: a sweep starts its own processes; leave one out"
        )
    return run("train", argv, train)


def train(config: Config) -> Outcome:
    """One run, new or resumed; the exit code says which signal ended it, if one did."""
    return finished(train_run(config))


def finished(result: "TrainResult") -> Outcome:
    """Says how far the run is, in one of its processes."""
    from dipole.policy.training.process.launch import Launch

    if Launch.of().rank.is_main:
        print("\n".join(_told(result)))
    if result.stopped is not None:
        return Outcome(128 + signal.Signals[result.stopped])
    return Outcome(int(result.not_copied is not None), result.score, result.score_name)


def train_run(config: Config) -> "TrainResult":
    """The run of a composed configuration, new or resumed."""
    import dipole.envs  # noqa: F401  simulators register the transforms of their states
    from dipole.policy.training.process.launch import training_group
    from dipole.policy.training.storage.resumption import run_to_resume

    said = config.get("overrides", {})
    if config["resume"] is not None:
        run = run_to_resume(config["resume"], config["output"] if "output" in said else None)
        before = run.configuration()
        changes = {key: value for key, value in said.items() if key not in ("resume", "output")}
        changes = resolved_in(before, changes)
        settings = _settings_of(before, changes)
        with training_group(settings["device"], settings["rank_timeout"]) as group:
            return _resume(Path(group.from_main(run.on_this_machine)), changes)
    _refuse_unused(config["policy"], said)
    return new_run(config, rename="output" not in said)


def new_run(config: Config, rename: bool) -> "TrainResult":
    """A run that begins, in one process or in several. rename: See `start_run`."""
    from dipole.policy.training.process.launch import training_group

    settings = config["train"]
    with training_group(settings["device"], settings["rank_timeout"]) as group:
        return _start(config, group, rename)


def _start(config: Config, group: "Group", rename: bool) -> "TrainResult":
    """A new run; or, where its processes were started again after a fault, the one they began."""
    from dipole.envs.training_score import training_score
    from dipole.policy.training.run import start_run
    from dipole.policy.training.storage.resumption import begun_before

    output = Path(config["output"]).expanduser()
    begun = group.from_main(lambda: begun_before(output, config))
    if begun is not None:
        return _resume(Path(begun), {})
    return start_run(config, output, training_score, rename=rename)


def _resume(output: Path, changes: Config) -> "TrainResult":
    from dipole.envs.training_score import training_score
    from dipole.policy.training.run import resume_run

    return resume_run(output, changes, training_score)


def _settings_of(config: Config, changes: Config) -> Config:
    """Those that processes need to find each other: of a run, with what is changed."""
    found = {"device": "auto", "rank_timeout": 600.0, **config["train"]}
    own = {key.removeprefix("train."): value for key, value in changes.items()}
    return {key: own.get(key, found[key]) for key in ("device", "rank_timeout")}


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
    """How far the run is, what could not be copied, and what a person does next."""
    if result.not_copied is None:
        return _reached(result)
    return [
        *_reached(result),
        f"not all of it is in object storage: {result.not_copied}\n"
        f"send what is missing with: dipole train resume={result.output}",
    ]


def _reached(result: "TrainResult") -> list[str]:
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
        return (
            f"compare it with held-out demonstrations: dipole evaluate checkpoint={output} "
            f"aspects=true\ntry it with: dipole deploy checkpoint={output} robot=YOURS dry_run=true"
        )
    environment = EnvSpec.read(named)
    more = "" if environment.module is None else f" environment={environment.id}"
    more += "" if environment.python is None else f" environment.python={environment.python}"
    return f"evaluate with: dipole evaluate checkpoint={output}{more}"
