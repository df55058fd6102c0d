"""`dipole export`: a policy for another runtime, in one folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dipole.apps.compose import Outcome, run
from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping

Config = dict[str, Any]


def main(argv: list[str]) -> int:
    return run("export", argv, export_checkpoint)


@dataclass(frozen=True)
class ExportConfig:
    """Everything that `dipole export` takes; configs/export.yaml says what each means."""

    checkpoint: str
    to: str
    weights: str
    part: str | None
    guidance_scale: float | None
    batch_sizes: tuple[int, ...]
    solver: Mapping[str, Any]
    output: str

    def __post_init__(self) -> None:
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise ConfigError(
                f"batch_sizes is {list(self.batch_sizes)}: give one size or more, each at least 1, "
                "such as batch_sizes=[1,16]"
            )


def export_checkpoint(config: Config) -> Outcome:
    """Write the artefact, print where it is and how near to the policy it comes."""
    from dipole.policy.checkpoint import export_terms, find_checkpoint, load_policy
    from dipole.policy.runtimes.export import export_policy
    from dipole.policy.runtimes.guidance import set_guidance
    from dipole.policy.runtimes.runnable import set_solver
    from dipole.policy.runtimes.runtime import require

    from_mapping(ExportConfig, {k: v for k, v in config.items() if k != "overrides"}, "")
    require(config["to"])
    checkpoint = find_checkpoint(config["checkpoint"])
    policy = load_policy(checkpoint, weights=config["weights"], part=config["part"])
    set_solver(policy, config["solver"])
    set_guidance(policy, config["guidance_scale"])
    output = Path(config["output"]).expanduser()
    terms = export_terms(checkpoint, config["weights"], config["part"])
    schema = export_policy(
        policy, config["to"], output, terms=terms, batch_sizes=config["batch_sizes"]
    )
    solver, parity = schema["solver"], schema["parity"]
    steps = f"{solver['steps']} steps of {solver['name']}" if solver else "one evaluation"
    print(
        f"{config['to']}: {schema['policy']} with {steps}, "
        f"within {parity['largest_difference']:.1e} of the policy's own chunks (normalised)\n"
        f"{output}"
    )
    return Outcome(0, parity["largest_difference"], "largest difference")
