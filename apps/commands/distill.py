"""`dipole distill`: a student of few steps out of a teacher's run."""

from typing import TYPE_CHECKING, Any

from dipole.apps.commands.train import finished, new_run
from dipole.apps.compose import Outcome, run

if TYPE_CHECKING:
    from dipole.policy.training.output.result import TrainResult

Config = dict[str, Any]


def main(argv: list[str]) -> int:
    return run("distill", argv, distill)


def distill(config: Config) -> Outcome:
    """One student."""
    return finished(distill_run(config))


def distill_run(config: Config) -> "TrainResult":
    """The run of a composed configuration. Afterwards it is a training run as any: it is resumed by
    `dipole train resume=OUTPUT`."""
    import dipole.envs  # noqa: F401  simulators register the transforms of their states
    from dipole.policy.training.distill import student_run
    from dipole.policy.training.process.launch import Launch

    planned = student_run(config)
    if Launch.of().rank.is_main:
        for note in planned.notes:
            print(note)
    return new_run(planned.config, rename="output" not in config.get("overrides", {}))
